"""What `compress` must refuse before it makes a model. About 30 seconds."""

import json
import shutil

import pytest

from tests.bad_inputs.kinds import of_each_kind
from tests.bad_inputs.runner import Case, check
from tests.bad_inputs.test_flags import (
    HUGE,
    LONG,
    NO_FLOATS,
    NO_NUMBERS,
    empty_folder,
    refused_by_absl,
    text,
)

RUN, OTHER = "../compress_inputs/run", "../compress_inputs/vanilla"


def of_run(*arguments, says, **more):
    """A case of the run that is whole, with further arguments."""
    return Case(
        "compress", [f"--run_dir={RUN}", "--output_dir=out", *arguments], says, **more
    )


def changed(says, *arguments, without=(), **settings):
    """A case of a copy of the run that lacks files or has other settings."""

    def prepare(folder):
        shutil.copytree(folder / RUN, folder / "copy")
        for name in without:
            (folder / "copy" / name).unlink()
        path = folder / "copy" / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))

    return Case("compress", ["--run_dir=copy", *arguments], says, prepare)


def there(name, content="a text\n"):
    """Return what puts a file into a folder of `out`."""

    def prepare(folder):
        (folder / "out" / name).parent.mkdir(parents=True)
        (folder / "out" / name).write_text(content)

    return prepare


MADE_OTHERWISE = {
    "kind": "compression",
    "title": "Vanilla",
    "run_digest": "another",
    "sparsity": 0.9,
    "format": "int8",
    "epochs": 2,
    "learning_rate": 0.1,
    "digest": "",
}

CASES = [
    Case("compress", [], "compress needs --run_dir=RUN"),
    Case("compress", ["--run_dir="], "--run_dir must not be empty"),
    Case("compress", ["--run_dir=absent"], "absent is no run directory"),
    Case("compress", ["--run_dir=d"], "d is no run directory", empty_folder("d")),
    Case("compress", ["--run_dir=f"], "f is no run directory|Not a dir", text("f")),
    Case("compress", [f"--run_dir={LONG}"], "too long|no run directory"),
    Case("compress", ["--run_dir=a,b"], "a,b is no run directory"),
    Case("compress", ["run"], "nothing is known of the argument 'run'"),
    Case("compress", ["--seed=1"], "Unknown command line flag 'seed'"),
    changed("copy is not finished", without=["metrics.json"]),
    changed("copy averages 2 models", ensemble_size=2),
    changed("copy has no model.keras", without=["model.keras"]),
    changed("levels of the vanilla model vanilla/model.keras, which is not there"),
    changed("smoothing.json .* is not there", without=["smoothing.json"]),
    changed("--method=adafocal learns", method="adafocal", alpha=None, num_levels=None),
    *[
        of_run(f"--sparsity={value}", says="--sparsity takes shares .*such as")
        for value in ("1", "1.5", "50", "50%", "-0.1", "nan", "inf", "x", "0,5", "½")
    ],
    of_run("--sparsity=0.5,0.50000001", says="0.5 and 0.50000001, whose models would"),
    of_run("--sparsity=", says="--sparsity must not be empty"),
    of_run("--sparsity=0.5,", says="--sparsity must not be empty or have empty"),
    *[
        of_run(f"--formats={value}", says="--formats must be among float32, float16")
        for value in ("int4", "INT8", "int8,x", "tflite")
    ],
    of_run("--formats=", says="--formats must not be empty"),
    *refused_by_absl("compress", "epochs", ("-1", *NO_NUMBERS)),
    *refused_by_absl("compress", "learning_rate", NO_FLOATS),
    of_run(f"--epochs={HUGE}", says="--epochs must be from 0 to"),
    *[
        of_run(f"--learning_rate={value}", says="--learning_rate must be above 0")
        for value in ("0", "-1", "nan", "inf")
    ],
    of_run("--output_dir=", says="--output_dir must not be empty"),
    of_run(f"--output_dir={RUN}", says="--output_dir .* is also read"),
    of_run(f"--output_dir={OTHER}", says="--output_dir .* is a run directory"),
    of_run(f"--output_dir={LONG}", says="File name too long"),
    of_run(says="--output_dir must be a folder", prepare=text("out")),
    of_run(says="out/whole-int8 is no folder", prepare=there("whole-int8")),
    of_run(
        says="pruned90-float32 holds model.keras and no compression.json",
        prepare=there("pruned90-float32/model.keras"),
    ),
    of_run(
        says="pruned90-int8 holds a model that was made otherwise",
        prepare=there("pruned90-int8/compression.json", json.dumps(MADE_OTHERWISE)),
    ),
    of_run(
        says="compression.json is not valid JSON",
        prepare=there("whole-int8/compression.json", "{"),
    ),
    *[
        of_run("--shift", f"--severities={value}", says="--severities must be among")
        for value in ("0", "6", "x", "1;2")
    ],
    of_run("--severities=1", says="--severities is for --shift; give both"),
    of_run("--epsilons=8", says="--epsilons is for --attacks; give both"),
    of_run("--shift", "--shift_types=rain", says="rain"),
    of_run("--shift", "--shift_source=tfds", says="tfds"),
    of_run("--shift", "--shift_source=published", says="published"),
    of_run("--shift", "--shift_source=web", says="should be one of"),
    of_run(
        "--shift", "--shift_cache_dir=/dev/null/sets", says="--shift_cache_dir must be"
    ),
    of_run("--attacks=cw", says="--attacks takes fgsm, pgd"),
    of_run("--attacks=", says="--attacks must not be empty"),
    of_run("--attacks=pgd", "--attack_norm=l2", says="--attack_norm=l2 is for apgd"),
    of_run("--attacks=fgsm", "--epsilons=256", says="--epsilons takes"),
    of_run("--attacks=fgsm", "--epsilons=8/255", says="--epsilons takes"),
]


@pytest.fixture(scope="module")
def inputs(parent, tmp_path_factory):
    """Train the run of AR-AdaLS that the cases name, in ../compress_inputs."""
    folder = tmp_path_factory.mktemp("compress_inputs", numbered=False)
    arguments = [
        *("--method=ar_adals", "--num_levels=2", "--attack=margin"),
        *("--limit_examples=24", "--epochs=1", "--notensorboard", "--noverbose"),
        *("--vanilla_dir=vanilla", "--output_dir=run"),
    ]
    ended = parent.run("train", arguments, folder, timeout=500)
    assert ended.status == 0, ended
    return folder


@pytest.mark.parametrize("case", of_each_kind(CASES))
def test_refused(case, parent, inputs, tmp_path):
    check(parent, case, tmp_path)
