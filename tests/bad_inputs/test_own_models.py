"""One's own models and modules, and exports, that cannot be."""

import compileall
import json
import shlex
import shutil
import zipfile

import keras
import numpy as np
import pytest
from keras import layers

from ar_adals_tf.reporting.page import write_report
from tests.bad_inputs.runner import Case, check

LAYERS = """
import keras

@keras.saving.register_keras_serializable("mine")
class Scale(keras.layers.Layer):
    def call(self, x):
        return 2 * x

class Loose(keras.layers.Layer):
    def call(self, x):
        return x + 1
"""


@pytest.fixture(scope="module")
def own_files(tmp_path_factory):
    """Write models and modules of one's own into a folder."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("own_files")
    (folder / "my_layers.py").write_text(LAYERS)
    (folder / "broken.py").write_text("x = 1\nraise KeyError('a')\n")
    (folder / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    code = compile(LAYERS, "my_layers", "exec")
    space = {"__name__": "my_layers"}
    exec(code, space)

    def save(name, *own, classes=10, shape=(28, 28, 1)):
        head = layers.Dense(classes, activation="softmax")
        stack = [keras.Input(shape), *own, layers.Flatten(), head]
        keras.Sequential(stack).save(folder / f"{name}.keras")

    save("good")
    broken = keras.models.load_model(folder / "good.keras")
    broken.set_weights([np.nan * weight for weight in broken.get_weights()])
    broken.save(folder / "diverged.keras")
    broken.set_weights([np.zeros_like(weight) for weight in broken.get_weights()])
    broken.save(folder / "blank.keras")
    save("few", classes=3)
    save("wide", shape=(8, 8, 1))
    save("scale", space["Scale"]())
    save("loose", space["Loose"]())
    save("lambda", layers.Lambda(lambda x: 2 * x))
    keras.saving.get_custom_objects().pop("mine>Scale")
    image = keras.Input((28, 28, 1))
    x = layers.Flatten()(image)
    outputs = [layers.Dense(10, activation="softmax")(x), layers.Dense(1)(x)]
    keras.Model(image, outputs).save(folder / "two.keras")
    compileall.compile_dir(folder, quiet=1)  # a refused command writes no file
    evil(folder / "good.keras", folder / "evil.keras")
    content = (folder / "good.keras").read_bytes()
    (folder / "cut.keras").write_bytes(content[: len(content) // 2])
    return folder


def evil(source, target):
    """Copy a model whose file names a function of another module as a layer."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                config["config"]["layers"].append(
                    {
                        "class_name": "system",
                        "module": "os",
                        "registered_name": "system",
                        "config": {"command": "touch hacked"},
                    }
                )
                content = json.dumps(config)
            new.writestr(name, content)


QUICK = ("--limit_examples=60", "--epochs=1", "--attack=margin", "--output_dir=run")


def train(*arguments, says, **more):
    return Case("train", [*QUICK, *arguments], says, **more)


def export(*arguments, says, **more):
    return Case("export", arguments, says, **more)


CASES = [
    train("--model=absent.keras", says="there is no model file absent.keras"),
    train(
        "--model=vgg", says="must be one of small_cnn.*MobileNetV2, or a .keras file"
    ),
    train("--model=MobileNetV2", says="MobileNetV2 cannot take images of 28x28"),
    train(
        "--model=few.keras", says="few.keras tells 3 classes apart, the data have 10"
    ),
    train("--model=wide.keras", says=r"wide.keras takes inputs of shape \(8, 8, 1\)"),
    train("--model=two.keras", says="several outputs"),
    train("--model=cut.keras", says="cut.keras cannot be loaded"),
    train("--model=lambda.keras", says="has a Lambda layer, whose code is never run"),
    train("--model=evil.keras", says="needs system of the module os"),
    train(
        "--model=scale.keras",
        says="needs Scale of the module my_layers, .* --import=my_module",
    ),
    train(
        *("--model=loose.keras", "--import=my_layers"),
        says="needs Loose of the module my_layers, which is not registered",
    ),
    train(
        "--import=broken", says="KeyError: 'a' .*broken.py, line 2.; mend the module"
    ),
    train("--import=leaves", says="SystemExit: 0 .*leaves.py, line 2.; mend the mo"),
    train("--import=absent", says="--import=absent: there is no such module"),
    train("--import=my_layers.py", says="leave folders and .py out"),
    train("--import=../my_layers", says="leave folders and .py out"),
    train("--import=", says="--import must not be empty"),
    train(
        *("--model=diverged.keras", "--finetune"),
        says=r"diverged.keras has weights that are not finite numbers \(2 of 2 arrays",
    ),
    train(
        *("--model=blank.keras", "--finetune"),
        says="blank.keras is not fine-tuned: it is right on .* than a guess",
    ),
    train("--finetune", says="--finetune calibrates .* --model=small_cnn"),
    train("--finetune", "--model=cnn7", says="--finetune calibrates"),
    train(
        "--model=good.keras", "--dropout=0.1", says="--dropout is for a network of a"
    ),
    train(
        "--model=good.keras", "--mixed_precision=float16", says="--mixed_precision is"
    ),
    train("--model=good.keras", "--weights_file=a.h5", says="--weights_file is for a"),
    train("--weights_file=a.h5", says="there is no file of weights a.h5"),
    train("--weights_file=my_layers.py", says="--weights_file must end in .weights.h5"),
    train("--model_range=0,255", says="--model_range is for a .keras file"),
    *[
        train(
            "--model=good.keras", f"--model_range={text}", says="--model_range must be"
        )
        for text in ("0", "255,0", "1,1", "0,inf", "nan,1", "0,1,2", "a,b")
    ],
    train(
        *("--model=good.keras", "--finetune", "--method=vanilla"),
        *("--epochs=0", "--ensemble_size=2"),
        says="would have equal members",
    ),
    train(
        *("--model=good.keras", "--finetune", "--method=vanilla"),
        *("--epochs=0", "--noise_sigma=0.25"),
        says="--noise_sigma is for training, and good.keras stays as it is",
    ),
    train("--epochs=0", says="--epochs must be at least 1; received 0"),
    Case(
        "evaluate",
        ["--model_file=scale.keras", "--output_dir=out"],
        "needs Scale of the module my_layers",
    ),
    Case(
        "compute_robustness",
        ["--model_file=scale.keras", "--output_file=out.npz"],
        "needs Scale of the module my_layers",
    ),
    export(says="needs either --run_dir=RUN or --model_file=.*received neither"),
    export("--run_dir=a", "--model_file=b.keras", says="received both"),
    export("--run_dir=absent", says="absent is no run directory"),
    export(
        "--run_dir=a", "--format=pickle", says="--format must be among keras, saved"
    ),
    export("--run_dir=a", "--format=", says="--format must not be empty"),
    export("--run_dir=a", "--tolerance=0", says="--tolerance must be above 0"),
    export("--run_dir=a", "--dataset=cifar10", says="--dataset is for --model_file"),
    export("--model_file=good.keras", says="--model_file needs --output_dir"),
    export(
        *("--model_file=my_layers.py", "--output_dir=out"),
        says="--model_file must be a .keras file; received my_layers.py",
    ),
    export(
        *("--model_file=few.keras", "--output_dir=out", "--limit_examples=60"),
        says="few.keras tells 3 classes apart",
    ),
    export(
        *("--model_file=scale.keras", "--output_dir=out", "--limit_examples=60"),
        says="needs Scale of the module my_layers",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_refused(case, parent, own_files, tmp_path):
    shutil.copytree(own_files, tmp_path, dirs_exist_ok=True)
    check(parent, case, tmp_path)
    assert not (tmp_path / "hacked").exists()


def test_registered_layers_are_found(parent, own_files, tmp_path):
    shutil.copytree(own_files, tmp_path, dirs_exist_ok=True)
    arguments = [*QUICK, "--model=scale.keras", "--method=vanilla", "--notensorboard"]
    ended = parent.run(
        "train", [*arguments, "--import=my_layers"], tmp_path, timeout=300
    )
    assert ended.status == 0, ended.err
    for command, more in (
        ("evaluate", ["--run_dir=run"]),
        ("export", ["--run_dir=run"]),
    ):
        refused = parent.run(command, more, tmp_path, timeout=300)
        assert "needs Scale of the module my_layers" in refused.err
        done = parent.run(command, [*more, "--import=my_layers"], tmp_path, timeout=300)
        assert done.status == 0, done.err


DATA = ("--limit_examples=60", "--import=my_layers")
OWN = ("--model_file=scale.keras", "--output_dir=own", *DATA)


@pytest.mark.slow
def test_memory_is_known_in_a_new_process(parent, own_files, tmp_path):
    """Which has to import what the model needs."""
    shutil.copytree(own_files, tmp_path, dirs_exist_ok=True)
    done = parent.run("evaluate", [*OWN, "--footprint"], tmp_path, timeout=300)
    assert done.status == 0, done.err
    costs = json.loads((tmp_path / "own" / "metrics.json").read_text())["footprint"]
    assert all(form["peak_bytes"] > 1e4 for form in costs["forms"].values())


@pytest.mark.slow
def test_printed_commands_import_what_a_model_needs(
    parent, own_files, tmp_path, monkeypatch, no_pictures
):
    """Each command of the page can be given again."""
    shutil.copytree(own_files, tmp_path, dirs_exist_ok=True)
    flags = ("--model=scale.keras", "--method=vanilla", "--epochs=1", "--notensorboard")
    for command, more in (
        ("train", [*flags, *DATA, "--output_dir=run"]),
        ("evaluate", [*OWN, "--attacks=fgsm", "--epsilons=8"]),
    ):
        done = parent.run(command, more, tmp_path, timeout=300)
        assert done.status == 0, done.err
    monkeypatch.chdir(tmp_path)
    write_report(["run", "own"], "page")
    page = (tmp_path / "page" / "report.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("python -m")]
    of_models = [line for line in lines if "train " in line or "evaluate " in line]
    assert len(of_models) > 3
    assert all("--import=my_layers" in line for line in of_models), of_models
    refused = parent.run("export", ["--run_dir=own"], tmp_path, timeout=300)
    command = (
        "python -m ar_adals_tf.export --model_file=scale.keras --dataset="
        "fashion_mnist_small --limit_examples=60 --import=my_layers "
        "--output_dir=own/export"
    )
    said = f"error: own is no run, but has an evaluation of scale.keras; give {command}"
    assert refused.status == 2 and said in refused.err
    words = shlex.split(command)[3:]
    assert parent.run("export", words, tmp_path, timeout=300).status == 0
