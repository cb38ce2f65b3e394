"""Flags, environments and arrays that every command must refuse. About 20 seconds."""

import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from tests.bad_inputs.kinds import of_each_kind
from tests.bad_inputs.runner import Case, check

# Were something not refused, it should at least end soon.
SMALL = ("--limit_examples=60", "--epochs=1", "--notensorboard", "--attack=margin")
LONG = "a" * 300
HUGE = "1" + 23 * "0"
NO_NUMBERS = ("x", "1.5", "1,2", "1e2", "nan", "inf", "--", "٣x")
NO_FLOATS = ("x", "1,5", "0x10", "1/2", "1..2", "--")
MODEL, ARRAYS = "../flag_inputs/model.keras", "../flag_inputs/arrays.npz"
FASHION = "../flag_inputs/fashion.keras"


def text(name, content="a text\n"):
    """Return what writes a file."""
    return lambda folder: (folder / name).write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )


def empty_folder(name):
    """Return what makes a folder."""
    return lambda folder: (folder / name).mkdir()


def copied(source, name):
    """Return what copies one of the inputs into the folder."""

    def copy(folder):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder / source, folder / name)

    return copy


def photos(folder):
    """Write pictures of two classes, 12 of each."""
    for number in range(24):
        path = folder / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (28, 28), 10 * number).save(path)


def train(*arguments, says, **more):
    return Case("train", [*SMALL, *arguments], says, **more)


def refused_by_absl(command, flag, values):
    return [Case(command, [f"--{flag}={value}"], f"--{flag}=") for value in values]


def with_strategy(environment, *arguments):
    """A cluster that TF_CONFIG describes badly."""
    return train(
        "--strategy=multi_worker",
        *arguments,
        says="TF_CONFIG, such as",
        environment={"TF_CONFIG": environment},
    )


def cluster(workers, index=0, kind="worker"):
    return json.dumps(
        {"cluster": {"worker": workers}, "task": {"type": kind, "index": index}}
    )


WHOLE_NUMBERS = (
    "seed",
    "split_seed",
    "epochs",
    "batch_size",
    "num_levels",
    "num_bins",
    "ensemble_size",
    "validation_examples",
    "selection_examples",
    "limit_examples",
    "refresh_every",
    "attack_iterations",
    "attack_batch_size",
    "attack_top_k",
    "cpu_replicas",
)
FLOATS = (
    "learning_rate",
    "dropout",
    "label_smoothing",
    "attack_learning_rate",
    "attack_gamma",
)
TEXTS = (
    "output_dir",
    "vanilla_dir",
    "data_dir",
    "model",
    "weights_file",
    "model_range",
    "alpha",
    "refresh_epochs",
    "epsilon",
    "tpu",
)

OF_TRAIN = [
    *[
        case
        for flag in WHOLE_NUMBERS
        for case in refused_by_absl("train", flag, ("x", "1.5", "-1", HUGE, ""))
    ],
    *refused_by_absl("train", "seed", NO_NUMBERS),
    *refused_by_absl("train", "seed", ("4294967296", str(2**63), str(2**64))),
    *refused_by_absl("train", "batch_size", ("0", "10000000000000000000")),
    *refused_by_absl("train", "num_bins", ("0", "100000000000000")),
    *refused_by_absl("train", "num_levels", ("0", "100000000000")),
    *refused_by_absl("train", "cpu_replicas", ("0", "100000")),
    *[
        case
        for flag in FLOATS
        for case in refused_by_absl("train", flag, NO_FLOATS[:3])
    ],
    *[
        train(*own, f"--{flag}={value}", says=f"{flag.removeprefix('attack_')} must be")
        for flag, own in {
            "learning_rate": (),
            "dropout": (),
            "label_smoothing": ("--method=ls",),
            "attack_learning_rate": ("--attack=cw",),
            "attack_gamma": ("--attack=ddn",),
        }.items()
        for value in ("nan", "inf", "-inf", "-1", "1e400")
    ],
    *[train(f"--{flag}=", says=f"--{flag} must not be empty") for flag in TEXTS],
    *[train(f"--{flag}=  ", says=f"--{flag} must not be empty") for flag in TEXTS],
    train("--method=foo", says="--method=foo: value should be one of"),
    train("--method=", says="--method=: value should be one of"),
    train("--method=ls,adals", says="value should be one of"),
    train("--dataset=cifar11", says="--dataset must be one of .* did you mean cifar10"),
    train(
        "--dataset=../cifar10", says="there is no such folder.* did you mean cifar10"
    ),
    train("--dataset=absent.npz", says="there is no file of arrays absent.npz"),
    train("--dataset=glue", says="glue .* is not one of images"),
    train("--dataset=mnist", says="mnist is not in .* could not be downloaded"),
    train("--image_size=64", says="--image_size means nothing to --dataset=fashion"),
    train("--input_range=0,255", says="--input_range means nothing to"),
    train("--split_names=test=val", says="--split_names means nothing to"),
    train("--schedule=cosine", says="value should be one of"),
    train("--augmentation=flip", says="value should be one of"),
    train("--attack=foolbox", says="value should be one of"),
    train("--levels_from=margin", says="value should be one of"),
    train("--mixed_precision=int8", says="value should be one of"),
    train("--adversarial_training=ls", says="value should be one of"),
    train("--strategy=horovod", says="value should be one of"),
    train("--deterministic=maybe", says="--deterministic=maybe"),
    train("--verbose=2", says="--verbose=2"),
    train("--nosuch", says="Unknown command line flag 'nosuch'; see --help$"),
    train("--epochs=x", says="--epochs=x: not a whole number: 'x'; see"),
    train("--dropout=x", says="--dropout=x: not a number: 'x'; see --help$"),
    train("--Seed=1", says="Unknown command line flag 'Seed'"),
    train("--seed", says="Missing value for flag --seed"),
    train("seed=1", says="nothing is known of the argument 'seed=1'"),
    train("--", "more", says="nothing is known of the argument 'more'"),
    *[
        train(f"--noise_sigma={value}", says="--noise_sigma must be ")
        for value in ("-0.1", "11", "nan", "inf")
    ],
    train("--noise_sigma=x", says="noise_sigma"),
    train(
        "--dataset=.",
        says="--output_dir runs/.* lies in .*, whose folders are the classes",
        prepare=photos,
    ),
    train(
        *("--dataset=.", "--method=ar_adals", "--output_dir=../elsewhere"),
        "--vanilla_dir=cat/run",
        says="the vanilla run cat/run lies in .*, whose folders are the classes",
        prepare=photos,
    ),
    train("--model=resnet9000", says="--model must be one of"),
    train("--model=small_cnn,study_cnn", says="--model must be one of"),
    *[
        train(f"--alpha={value}", says="alpha")
        for value in ("x", "nan", "inf", "-0.1", "0.1,", "5:0.1,3:0.2", "1:", "0.1:2:3")
    ],
    *[
        train(f"--refresh_epochs={value}", says="--refresh_epochs must")
        for value in ("x", "1.5", "0", "-1", "1", "1,,2", HUGE, "1;2")
    ],
    train("--epochs=2", "--refresh_every=5", says="must be below the 2 epochs"),
    train("--epochs=2", "--refresh_every=2", says="must be below the 2 epochs"),
    train(
        *("--epochs=9", "--refresh_every=2", "--refresh_epochs=2"),
        says="either --refresh_epochs or --refresh_every",
    ),
    train(
        *("--epochs=9", "--refresh_every=2", "--method=ls"),
        says="--method=ls has none such",
    ),
    train("--vanilla=some", says="value should be one of"),
    train("--vanilla=none", "--method=ls", says="--vanilla=none is for methods with"),
    train("--vanilla=none", "--levels_from=loss", says="means --levels_from=own"),
    train("--vanilla=none", "--vanilla_dir=v", says="there is no vanilla model"),
    train(
        *("--epochs=9", "--refresh_every=2", "--levels_from=loss"),
        says="--refresh_epochs means --levels_from=robustness",
    ),
    *[
        train(
            f"--method={method}",
            f"--{flag}={value}",
            says=f"--{flag} must be.*received",
        )
        for method, flag in (
            ("focal", "focal_gamma"),
            ("mixup", "mixup_alpha"),
            ("pgd_at", "epsilon"),
            ("pgd_at", "pgd_steps"),
        )
        for value in ("x", "nan", "inf", "-1", "1/0", "1e999999999", "1/x", "8/255/2")
    ],
    train("--method=pgd_at", "--pgd_steps=100000000", says="--pgd_steps must be"),
    train("--method=ls", "--epsilon=0.1", says="--epsilon means nothing to --method"),
    train(
        "--attack=margin",
        "--attack_iterations=5",
        says="--attack_iterations means nothing to --attack=margin",
    ),
    train("--attack=cw", "--attack_iterations=0", says="--attack_iter"),
    train(
        *("--method=pgd_at", "--adversarial_training=trades"),
        says="--method=pgd_at is adversarial training itself",
    ),
    train("--method=ar_adals", "--num_levels=61", says="at most the 60 train images"),
    train(
        *("--num_levels=10", "--validation_examples=9"),
        says="--num_levels must be at most the 9 validation images; received 10",
    ),
    train(
        *("--num_levels=10", "--validation_examples=20", "--selection_examples=11"),
        says="--num_levels must be at most the 9 validation images",
    ),
    train(
        "--levels_from=random", "--num_levels=61", says="at most the 60 train images"
    ),
    train("--selection_examples=60", says="--selection_examples must be below the 60"),
    train("--selection_examples=1000000", says="--selection_examples must be below"),
    train("--validation_examples=6000", says="validation_examples must be"),
    train("--validation_examples=0", says="--validation_examples=0 cannot be"),
    train(
        *("--method=ar_adals_of_ensemble", "--ensemble_size=1"),
        says="--ensemble_size must be at least 2",
    ),
    train(
        *("--method=vanilla", "--ensemble_size=3", "--seed=4294967294"),
        says="the seeds of 3 members count up from --seed",
    ),
    train(f"--output_dir={LONG}", says="File name too long"),
    train(f"--output_dir=new/{LONG}", says="File name too long"),
    train(f"--vanilla_dir={LONG}", says="File name too long"),
    train("--output_dir=file", says="Not a dir|File exists", prepare=text("file")),
    train("--output_dir=file/run", says="Not a directory", prepare=text("file")),
    train("--output_dir=/proc/run", says="--output_dir must be a folder"),
    train("--output_dir=a\udcffb", says="--output_dir must be text in UTF-8"),
    train("--dataset=cifar10", "--data_dir=absent", says="cifar10 is not in absent"),
    train(
        "--flagfile=a.cfg",
        says="the flagfile .*a.cfg cannot be read .* a file of text",
        prepare=text("a.cfg", b"\xff\xfe--seed=1"),
    ),
    train(
        "--flagfile=a.cfg",
        says="without null characters",
        prepare=text("a.cfg", b"--output_dir=a\0b"),
    ),
    train(
        "--flagfile=a.cfg",
        says="Unknown command line flag 'nosuch'",
        prepare=text("a.cfg", "--nosuch=1\n"),
    ),
    train("--flagfile=absent", says="there is no flagfile 'absent': .*absent is no"),
    train("--flagfile=", says="there is no flagfile ''"),
    train("--flagfile", says="--flagfile needs a file"),
    train(
        "--flagfile=a.cfg",
        says="no flagfile 'b.cfg': .*/a.cfg names it, and it is neither in /",
        prepare=text("a.cfg", "--flagfile=b.cfg\n"),
    ),
    train(
        "--flagfile=a.cfg",
        says="the flagfile .*/a.cfg names itself; take",
        prepare=text("a.cfg", "--flagfile=a.cfg\n"),
    ),
    train("--flagfile=f", says="there is no flagfile 'f'", prepare=empty_folder("f")),
    train("--strategy=mirrored", says="finds no GPU here"),
    train("--cpu_replicas=2", says="--cpu_replicas is for --strategy=mirrored"),
    train("--tpu=local", says="--tpu is for --strategy=tpu"),
    train("--strategy=tpu", "--tpu=none", says="finds no TPU 'none'"),
    train("--strategy=tpu", "--tpu=grpc://10.0.0.1", says="finds no TPU"),
    train(
        *("--strategy=mirrored", "--cpu_replicas=7", "--method=vanilla"),
        "--batch_size=3",
        says="make a batch of 3, so one of the 7 replicas would get none",
    ),
    *map(
        with_strategy,
        (
            "",
            "{",
            "[]",
            "null",
            "5",
            '"text"',
            "{}",
            '{"cluster": 1}',
            '{"cluster": {"worker": []}, "task": []}',
            "[" * 5000,
            cluster([1, 2]),
            cluster("host0:1"),
            cluster({"host0:1": 1}),
            cluster(["host0"]),
            cluster(["host0:"]),
            cluster([":1"]),
            cluster(["host0:x"]),
            cluster(["host0:70000"]),
            cluster(["host0:1", "host0:1"]),
            cluster(["host0:1"], 1),
            cluster(["host0:1"], -1),
            cluster(["host0:1"], "0"),
            cluster(["host0:1"], True),
            cluster(["host0:1"], 0.0),
            cluster(["host0:1"], None),
            cluster(["host0:1"], 0, "chief"),
            cluster(["host0:1"], 0, None),
        ),
    ),
]


def sweep(*arguments, says, **more):
    return Case("sweep", [*SMALL, *arguments], says, **more)


OF_SWEEP = [
    *[
        sweep("--param=num_levels", f"--values={values}", says=says)
        for values, says in {
            "1,1000000000": "--num_levels must be at most 1,000,000; received 10*$",
            "1,100": "--num_levels must be at most the 60 train images; received 100",
            "1,x": "--values of num_levels must be numbers",
            "1,1.5": "--values of num_levels must be numbers",
            "1,0": "--num_levels must be at least 1; received 0",
            "1,-4": "--num_levels must be at least 1; received -4",
            "1,1": "--values must differ",
            "1,,2": "--values must not be empty or have empty entries",
            "": "--values must not be empty",
            ",": "--values must not be empty",
            f"1,{HUGE}": "--num_levels must be at most",
        }.items()
    ],
    *[
        sweep("--method=ls", f"--values=0.1,{value}", says="label_smoothing must be")
        for value in ("nan", "inf", "1", "-0.1", "1e400")
    ],
    *[
        sweep("--method=adals", f"--values=0.1,{value}", says="alpha")
        for value in ("nan", "inf", "-1", "x", "0.1:5", "1e400")
    ],
    sweep("--method=vanilla", says="--method=vanilla has no setting to sweep over"),
    sweep(
        *("--method=ls", "--param=alpha"), says="--param=alpha means nothing to .*=ls"
    ),
    sweep("--param=seed", says="value should be one of"),
    sweep("--validation_examples=0", says="--validation_examples=0"),
    sweep("--selection_examples=60", says="must be below the 60 validation images"),
    sweep("--output_dir=", says="--output_dir must not be empty"),
    sweep("--output_dir=f", says="--output_dir must be a folder", prepare=text("f")),
    sweep(f"--output_dir={LONG}", says="File name too long"),
    sweep("more", says="nothing is known of the argument 'more'"),
    sweep("--run_dir=a", says="Unknown command line flag"),
]


def evaluate(*arguments, says, **more):
    return Case(
        "evaluate",
        [
            f"--model_file={FASHION}",
            "--output_dir=out",
            "--limit_examples=60",
            *arguments,
        ],
        says,
        **more,
    )


OF_EVALUATE = [
    *[
        evaluate("--shift", f"--severities={value}", says="--severities must be among")
        for value in ("x", "1.5", "0", "6", "-1", "1;2", "nan", HUGE)
    ],
    *[
        evaluate(f"--{flag}", says=r"--\w+ is for --(shift|attacks); give both, or n")
        for flag in (
            "severities=1",
            "shift_types=fog",
            "shift_source=auto",
            "shift_cache_dir=sets",
            "epsilons=8",
            "attack_norm=linf",
        )
    ],
    *[
        Case(
            "evaluate",
            ["--run_dir=absent", f"--{name}={value}"],
            r"--\w+ is for --model_file; what --run_dir names has its own: leave it",
        )
        for name, value in (
            ("output_dir", "copy"),
            ("dataset", "svhn_cropped"),
            ("title", "A"),
            ("split_seed", "0"),
            ("validation_examples", "0"),
            ("validation", "val.npz"),
            ("model_range", "0,255"),
            ("image_size", "8"),
            ("input_range", "0,1"),
            ("split_names", "test=val"),
        )
    ],
    *[
        Case(
            "evaluate",
            ["--predictions=absent.npz", "--output_dir=out", f"--{flag}"],
            r"no model and no inputs; leave out --\w+, or give the model as --mod",
        )
        for flag in ("split_seed=0", "data_dir=d", "image_size=8", "certify")
    ],
    evaluate("--shift", "--severities=", says="--severities must not be empty"),
    evaluate("--shift", "--severities=1,", says="--severities must not be empty"),
    evaluate("--shift", "--shift_types=rain", says="rain"),
    evaluate("--shift", "--shift_types=fog,../fog", says="fog"),
    evaluate("--shift", "--shift_types=", says="--shift_types must not be empty"),
    evaluate("--shift", "--shift_source=web", says="should be one of"),
    evaluate("--shift", "--shift_source=tfds", says="tfds"),
    evaluate("--shift", "--shift_source=published", says="published"),
    evaluate(
        "--shift",
        "--shift_cache_dir=/dev/null/sets",
        says="--shift_cache_dir must be a folder that can be written to",
    ),
    evaluate("--shift", "--shift_cache_dir=", says="--shift_cache_dir must not be"),
    *[
        evaluate("--attacks=fgsm", f"--epsilons={value}", says="--epsilons takes")
        for value in ("x", "8/255", "-4", "256", "nan", "inf", "1e400")
    ],
    evaluate("--attacks=fgsm", "--epsilons=", says="--epsilons must not be empty"),
    *[
        evaluate(f"--attacks={value}", says="--attacks takes fgsm, pgd")
        for value in ("cw", "FGSM", "fgsm,x", "../pgd")
    ],
    evaluate("--attacks=", says="--attacks must not be empty"),
    evaluate("--attacks=pgd", "--attack_norm=l2", says="--attack_norm=l2 is for apgd"),
    evaluate("--attacks=square", "--attack_norm=l1", says="should be one"),
    evaluate("--attacks=square", "--epsilons=256", says="--epsilons takes"),
    *[
        evaluate(f"--ood={value}", says="--ood takes datasets other than")
        for value in ("fashion_mnist_small", "mnits", "cifar10,x")
    ],
    evaluate("--ood=", says="--ood must not be empty"),
    *[
        evaluate("--certify", f"--sigma={value}", says="--sigma takes standard dev")
        for value in ("x", "0", "-1", "nan", "inf", "11", "0.25,x")
    ],
    evaluate("--certify", "--sigma=", says="--sigma must not be empty"),
    evaluate("--sigma=0.5", says="--sigma is for --certify"),
    evaluate("--certify_images=9", says="--certify_images is for --certify"),
    *[
        evaluate("--certify", f"--{name}={value}", says=f"--{name} must be at ")
        for name in ("certify_samples", "certify_selection_samples", "certify_images")
        for value in ("0", "-1", HUGE)
    ],
    *[
        evaluate("--certify", f"--certify_alpha={value}", says="--certify_alpha must")
        for value in ("0", "0.5", "-1", "nan", "inf")
    ],
    evaluate("--certify", "--certify_samples=99", says="at least --certify_selection"),
    evaluate("--certify", "--certify_samples=x", says="certify_samples"),
    evaluate("--ood=cifar10", "--data_dir=absent", says="cifar10 is not in absent"),
    *refused_by_absl("evaluate", "num_bins", ("0", "-1", "x", "1.5", HUGE, "nan")),
    *refused_by_absl("evaluate", "limit_examples", ("0", "-1", "x", HUGE)),
    *refused_by_absl("evaluate", "split_seed", ("-1", "x", HUGE)),
    Case("evaluate", [], "needs one of --run_dir=RUN, .*received none"),
    Case("evaluate", ["--run_dir=r", "--model_file=m"], "received --run_dir and --mo"),
    Case("evaluate", ["--run_dir=absent"], "absent is no run directory"),
    Case("evaluate", ["--run_dir="], "--run_dir must not be empty"),
    Case("report", ["--runs=absent"], "absent is no finished run: it is not there; "),
    Case("report", ["--runs=a.tar"], "run: it is a file, no .zip; ", text("a.tar")),
    *[
        Case("train", [f"--dataset={name}"], f"{name}: there is no such folder")
        for name in ("./absent", "absent/", "/absent/photos")
    ],
    Case("train", ["--dataset=/etc/passwd"], "is a file and no .npz"),
    *[
        Case(
            command, ["--dataset=absent.npz", *more], "is no file of arrays absent.npz"
        )
        for command, more in (
            ("train", []),
            ("sweep", []),
            ("evaluate", [f"--model_file={FASHION}", "--output_dir=o"]),
            ("export", [f"--model_file={FASHION}", "--output_dir=o"]),
            ("compute_robustness", [f"--model_file={FASHION}", "--output_file=o.npz"]),
        )
    ],
    *[
        evaluate(f"--ood={name}", says=f"--ood={name}: there is no such file or folder")
        for name in ("absent.npz", "./absent", "../cifar10")
    ],
    Case("evaluate", ["--predictions=a.npz", "--output_dir=o"], "is no file of predic"),
    Case("reproduce", ["--study=absent.toml"], "there is no file absent.toml; give"),
    Case("evaluate", ["--run_dir=f"], "f is no run directory|Not a dir", text("f")),
    Case("evaluate", [f"--run_dir={LONG}"], "too long|no run directory"),
    Case("evaluate", [f"--model_file={MODEL}"], "--model_file needs --output_dir"),
    Case("evaluate", ["--model_file=no", "--output_dir=o"], "there is no model file"),
    Case("evaluate", ["--model_file=.", "--output_dir=o"], "there is no model file"),
    evaluate("--output_dir=", says="--output_dir must not be empty"),
    evaluate("--output_dir=f", says="--output_dir must be a folder", prepare=text("f")),
    evaluate(f"--output_dir={LONG}", says="File name too long"),
    evaluate(
        *("--model_file=out/calibrated.keras", "--validation=validation"),
        says="the result out/calibrated.keras is also read .* would be overwritten",
        prepare=copied(FASHION, "out/calibrated.keras"),
    ),
    evaluate(
        "--validation=out/predictions.npz",
        says="the result out/predictions.npz is also read",
        prepare=copied(ARRAYS, "out/predictions.npz"),
    ),
    evaluate(
        *("--dataset=.", "--output_dir=cat/results"),
        says="--output_dir cat/results lies in .*, whose folders are the classes",
        prepare=photos,
    ),
    evaluate("--robustness_index=no.npz", says="there is no robustness index no.npz"),
    evaluate("--robustness_index=", says="--robustness_index must not be empty"),
    evaluate("--dataset=cifar11", says="must be one of .* did you mean cifar10"),
    evaluate("--dataset=cifar10", "--data_dir=absent", says="cifar10 is not in absent"),
    evaluate("--model_file=../flag_inputs/two.keras", says="several outputs"),
    evaluate("--model_file=../flag_inputs/fashion_whole.keras", says="type int32"),
    evaluate("--model_file=../flag_inputs/wide.keras", says="takes images of shape"),
    evaluate("--model_file=../flag_inputs/sigmoid.keras", says="sigmoid"),
    evaluate("--model_file=../flag_inputs/one.keras", says="tells 2 classes apart"),
    evaluate("--cpu_replicas=2", says="--cpu_replicas is for --strategy=mirrored"),
    evaluate("--strategy=tpu", says="finds no TPU"),
]


def compute(*arguments, says, **more):
    return Case(
        "compute_robustness",
        [
            f"--model_file={MODEL}",
            f"--arrays={ARRAYS}",
            "--output_file=index.npz",
            "--attack=margin",
            *arguments,
        ],
        says,
        **more,
    )


def arrays(says, dry_run=False, **changed):
    """A file of arrays in which some are not as they should be."""

    def write(folder):
        rng = np.random.default_rng(0)
        whole = {
            "images": rng.random((6, 4, 4, 1), np.float32),
            "labels": np.arange(6) % 3,
            "ids": np.arange(6),
        }
        np.savez(folder / "bad.npz", **whole | changed)

    return compute(
        "--arrays=bad.npz",
        *(["--dry_run"] if dry_run else []),
        says=says,
        prepare=write,
    )


SIX, GREY = np.arange(6), np.zeros((6, 4, 4, 1), np.float32)

OF_COMPUTE = [
    *[
        arrays("ids must be", dry_run, ids=ids)
        for dry_run in (False, True)
        for ids in (
            SIX / 2,
            SIX > 2,
            SIX.astype("M8[D]"),
            SIX.astype("m8[s]"),
            SIX * 1j,
            np.array(5),
            SIX[:, None],
            SIX.reshape(1, 6),
            SIX.astype(np.uint64) + np.uint64(2**63),
        )
    ],
    arrays("ids in .* must be unique", ids=SIX // 2),
    arrays("ids in .* must be unique", ids=np.array(["a"] * 6)),
    arrays("equally many", ids=np.arange(5)),
    *[
        arrays("labels must be", dry_run, labels=labels)
        for dry_run in (False, True)
        for labels in (
            np.array(["a"] * 6),
            SIX + np.nan,
            SIX + np.inf,
            SIX + 0.5,
            np.array(3),
            np.zeros((6, 2, 2), int),
            SIX.astype("M8[D]"),
            SIX * 1j,
            np.zeros((6, 0)),
        )
    ],
    arrays("equally many", labels=np.arange(5)),
    arrays("equally many", labels=np.eye(6)[:1]),
    arrays("one-hot labels must be rows", labels=np.arange(6)[None]),
    arrays("inputs must be numbers; received text", images=np.full((6, 4, 4, 1), "a")),
    *[
        arrays("images must be uint8, or floats", images=images)
        for images in (
            GREY.astype(np.int64),
            GREY.astype(bool),
            GREY.astype("M8[D]"),
            GREY * 1j,
            GREY.astype(np.int8),
        )
    ],
    *[
        arrays("no image to attack", images=images)
        for images in (GREY[:0], np.array(0.5), np.array("text"))
    ],
    *[
        arrays(r"images must lie in \[0, 1\]", images=images)
        for images in (GREY + 2, GREY - 1)
    ],
    *[
        arrays("inputs must be finite; 6 of 6 images", images=images)
        for images in (GREY + np.nan, GREY + np.inf)
    ],
    *[
        arrays("takes images of shape", images=images)
        for images in (GREY[..., 0], GREY[:, :3], GREY.reshape(6, 16), GREY[..., None])
    ],
    *[
        Case(
            "compute_robustness",
            [
                f"--model_file=../flag_inputs/{name}.keras",
                f"--arrays={ARRAYS}",
                "--attack=margin",
                more,
            ],
            says,
        )
        for name, says in {
            "two": "several outputs",
            "whole": "type int32",
            "wide": "takes images of shape",
            "sigmoid": "sigmoid",
            "one": "cannot tell whether",
        }.items()
        for more in ("--dry_run", "--output_file=index.npz")
    ],
    compute("--model_file=", says="--model_file must not be empty"),
    compute("--arrays=", says="--arrays must not be empty"),
    compute("--output_file=", says="--output_file must not be empty"),
    compute("--model_file=absent.keras", says="there is no model file absent.keras"),
    compute("--arrays=absent.npz", says="there is no file for --arrays absent.npz"),
    compute("--arrays=.", says="no whole file for --arrays|no file for --arrays"),
    compute("--arrays=a.npz", says="no whole file", prepare=text("a.npz")),
    compute("--arrays=a.npz", says="no whole file", prepare=text("a.npz", b"")),
    compute("--attack=foolbox", says="should be one of"),
    compute("--attack_top_k=0", says="--attack_top_k=0"),
    compute(f"--attack_batch_size={HUGE}", says="--attack_batch_size"),
    compute("--attack_dtype=float64", says="should be one of"),
    compute("--attack_iterations=5", says="means nothing to --attack=margin"),
    *[
        compute(
            "--attack=ddn", f"--attack_gamma={value}", says="gamma must be a number"
        )
        for value in ("nan", "inf", "0", "-1", "1e300")
    ],
    *refused_by_absl(
        "compute_robustness", "attack_iterations", ("x", "0", "-5", "1.5", HUGE)
    ),
    compute("--split=all", says="should be one of"),
    compute("--cpu_replicas=2", says="--cpu_replicas is for --strategy=mirrored"),
    Case("compute_robustness", [], "--model_file is missing"),
    *[
        compute(f"--{flag}", says=r"--\w+ means nothing beside --arrays")
        for flag in (
            "limit_examples=5",
            "input_range=0,1",
            "split=test",
            "dataset=cifar10",
            "split_seed=1",
        )
    ],
]

OF_OTHERS = [
    *[
        Case(
            "export",
            [f"--model_file={FASHION}", "--output_dir=out"],
            f"out holds {name} and no export.json, .* be overwritten",
            copied(FASHION, f"out/{name}"),
        )
        for name in ("calibrated.keras", "README.md")
    ],
    Case("report", [], "needs at least one run"),
    Case("report", ["--runs="], "--runs must not be empty"),
    Case("report", ["--runs=a,,b"], "--runs must not be empty or have empty"),
    Case("report", ["--runs=absent"], "absent is no finished run"),
    Case(
        "report",
        ["--runs=absent", "--trade_off=accuracy,speed"],
        "--trade_off takes two different measures of accuracy, ece, .*accuracy,speed",
    ),
    Case("report", ["--runs=absent", "--trade_off="], "--trade_off must not be empty"),
    Case("report", ["--runs=f"], "f", text("f")),
    Case("report", ["--runs=d"], "d is no finished run", empty_folder("d")),
    Case("report", [f"--runs={LONG}"], "too long|no finished run"),
    Case("report", ["--output_dir="], "--output_dir must not be empty"),
    Case("report", ["run"], "nothing is known of the argument 'run'"),
    Case("report", ["--seed=1"], "Unknown command line flag 'seed'"),
    Case("compare_indexes", [], "--indexes needs two index files"),
    Case("compare_indexes", ["--indexes=a"], "--indexes needs two index files"),
    Case("compare_indexes", ["--indexes=a,b,c"], "--indexes needs two index files"),
    Case("compare_indexes", ["--indexes=a,b"], "there is no robustness index a"),
    Case("compare_indexes", ["--indexes=a,"], "--indexes must not be empty"),
    Case("compare_indexes", ["--indexes=f,f"], "no whole robustness index", text("f")),
    *refused_by_absl("compare_indexes", "num_levels", ("0", "-1", "x", "1.5", "")),
    *refused_by_absl("quickstart", "seed", ("-1", "x", "1.5")),
    *refused_by_absl("quickstart", "epochs", ("0", "-1", "x", "1.5")),
    *refused_by_absl("quickstart", "limit_examples", ("19", "0", "-1", "x")),
    Case("quickstart", ["--seed=4294967296"], "--seed must be at most 4,294,967,295"),
    *[
        Case("quickstart", [f"--{flag}={HUGE}"], f"--{flag} must be at most")
        for flag in ("seed", "epochs", "limit_examples")
    ],
    Case("quickstart", ["--output_dir="], "--output_dir must not be empty"),
    Case("quickstart", ["--output_dir=f"], "Not a dir|File exists|folder", text("f")),
    Case("quickstart", [f"--output_dir={LONG}"], "File name too long"),
    Case("quickstart", ["--method=ls"], "Unknown command line flag"),
]

#: The shell leaves a `~` behind a = as it is.
OF_HOMES = [
    Case(command, [f"--{flag}={value}"], says, environment={"HOME": "/nobody"})
    for command, flag, value, says in (
        ("train", "model", "~/a.keras", "no .*/nobody/a.keras"),
        ("train", "dataset", "~/photos", "/nobody/photos: there is no such folder"),
        ("evaluate", "run_dir", "~/run", "/nobody/run is no run directory"),
        ("report", "runs", "~/a,~/b", "/nobody/a is no finished run"),
        ("compare_indexes", "indexes", "~/a,~/b", "robustness index /nobody/a"),
    )
]

CASES = [
    *OF_TRAIN,
    *OF_SWEEP,
    *OF_EVALUATE,
    *OF_COMPUTE,
    *OF_OTHERS,
    *OF_HOMES,
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Make the models and arrays that the cases name, in ../flag_inputs."""
    folder = tmp_path_factory.mktemp("flag_inputs", numbered=False)
    keras.utils.set_random_seed(0)

    def save(name, *outputs, shape=(4, 4, 1), dtype="float32"):
        image = keras.Input(shape, dtype=dtype)
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1.0)(image))
        heads = [keras.layers.Dense(n, activation=a)(x) for n, a in outputs]
        model = keras.Model(image, heads if len(heads) > 1 else heads[0])
        model.save(folder / f"{name}.keras")

    save("model", (3, None))
    save("fashion", (10, None), shape=(28, 28, 1))
    save("fashion_whole", (10, None), shape=(28, 28, 1), dtype="int32")
    save("two", (3, None), (2, None))
    save("whole", (3, None), dtype="int32")
    save("wide", (10, None), shape=(8, 8, 3))
    save("sigmoid", (3, "sigmoid"))
    save("one", (1, None))
    np.savez(folder / "arrays.npz", images=np.zeros((6, 4, 4, 1), np.uint8))
    return folder


@pytest.mark.parametrize("case", of_each_kind(CASES))
def test_refused(case, parent, inputs, tmp_path):
    check(parent, case, tmp_path)


def test_there_are_many():
    assert len(CASES) >= 400
