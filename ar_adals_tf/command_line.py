"""The flags of all commands, in one place, and how commands begin and end.

This is the only module that reads absl's `FLAGS`. It imports TensorFlow only when a
command starts its work, so that `--help` is there at once.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

from absl import app, flags, logging

from ar_adals_tf.errors import InputError
from ar_adals_tf.quiet import quiet_libraries

FLAGS = flags.FLAGS

#: Flags of single methods, and what they say.
METHOD_SETTINGS = {
    "focal_gamma": "Exponent of --method=focal; the default is 3.",
    "mbls_margin": "Margin of --method=mbls; the default is 10.",
    "mbls_weight": "Weight of its penalty; the default is 0.1.",
    "mixup_alpha": "Of --method=mixup: weights come from Beta(alpha, alpha); the "
    "default is 0.2.",
    "epsilon": "Of fgsm_at, pgd_at and trades: largest change of a pixel, images being "
    "in [0, 1]; a number such as 8/255, the default, or 0.03.",
    "adversarial_share": "Of fgsm_at and pgd_at: share of each batch that is attacked, "
    "the rest staying clean; the default is 0.5.",
    "pgd_steps": "Of pgd_at and trades: steps of the attack; the default is 7, of "
    "trades 10.",
    "pgd_relative_step": "Of the same: a step's length as a share of --epsilon; the "
    "default is 0.25.",
    "trades_beta": "Of trades: weight of the divergence between clean and attacked "
    "images; the default is 6.",
}


def define_data_flags() -> None:
    """Define what says which images."""
    flags.DEFINE_enum(
        "dataset",
        "fashion_mnist_small",
        [
            "fashion_mnist_small",
            "fashion_mnist",
            "svhn_cropped",
            "cifar10",
            "cifar100",
            "imagenet2012",
        ],
        "The images. fashion_mnist_small comes with the package; the others come from "
        "TensorFlow Datasets, which downloads what is not there.",
    )
    flags.DEFINE_string(
        "data_dir",
        None,
        "Where TensorFlow Datasets keeps its data; the default is the environment "
        "variable TFDS_DATA_DIR, or ~/tensorflow_datasets.",
    )
    flags.DEFINE_integer(
        "split_seed",
        0,
        "Seed of the random division into training and validation images. It is apart "
        "from --seed, so that runs can share one division.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "validation_examples",
        None,
        "Size of the validation set. The default is the recipe's: 10 % of the training "
        "images, for ImageNet half of its validation images.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "limit_examples",
        None,
        "Use at most so many images of every split, for a quick look.",
        lower_bound=1,
    )


def define_training_flags() -> None:
    """Define what says how to train."""
    flags.DEFINE_enum(
        "method",
        "ar_adals",
        [
            *("vanilla", "ls", "adals", "ar_adals", "ar_adals_of_ensemble"),
            *("focal", "flsd", "mbls", "mixup", "fgsm_at", "pgd_at", "trades"),
        ],
        "vanilla: hard labels. ls: label smoothing. adals: label smoothing whose "
        "degree follows the validation set. ar_adals: likewise, for each robustness "
        "level on its own. ar_adals_of_ensemble: five models (--ensemble_size) trained "
        "in lockstep, an epoch each in turn, whose soft labels follow their averaged "
        "validation probabilities; all weights and optimizer states are in memory, "
        "activations of one model at a time. focal, flsd: focal loss, also with gamma "
        "by sample. mbls: margin-based label smoothing. mixup: mixed images and "
        "labels. fgsm_at, pgd_at: adversarial training on attacked and clean images; "
        "trades: on clean images, staying constant around them.",
    )
    flags.DEFINE_enum(
        "adversarial_training",
        None,
        ["fgsm_at", "pgd_at", "trades"],
        "Adversarial training on top of another --method, such as ar_adals: attacked "
        "images keep the method's soft labels. Settings: --epsilon and those after it.",
    )
    flags.DEFINE_string(
        "output_dir",
        None,
        "The run directory; the default is runs/<dataset>-<method>-<seed>.",
    )
    flags.DEFINE_string(
        "vanilla_dir",
        None,
        "Run directory of the vanilla model whose robustness ranks the images; the "
        "default is <dataset>-vanilla-0 beside the run. It is trained if it is absent.",
    )
    flags.DEFINE_integer(
        "seed", 0, "Initial weights, shuffling and augmentation.", lower_bound=0
    )
    flags.DEFINE_string("model", None, "The network; the default is the recipe's.")
    flags.DEFINE_integer(
        "epochs",
        None,
        "Number of epochs; the recipe's schedule is stretched to it.",
        lower_bound=1,
    )
    flags.DEFINE_integer("batch_size", None, "Global batch size.", lower_bound=1)
    flags.DEFINE_float("learning_rate", None, "Base learning rate.")
    flags.DEFINE_enum(
        "schedule",
        "recipe",
        ["recipe", "constant"],
        "How the learning rate moves; constant: it stays at --learning_rate.",
    )
    flags.DEFINE_enum(
        "augmentation",
        "recipe",
        ["recipe", "none"],
        "How training images are varied; none: they stay as they are.",
    )
    flags.DEFINE_float("dropout", None, "Share of features dropped before the head.")
    flags.DEFINE_string(
        "alpha",
        None,
        "Learning rate of the smoothing, Eq. 3: a number such as 0.005, or a schedule "
        "such as 0.001,60:0.05 (0.05 from epoch 60 on, counted from 0).",
    )
    flags.DEFINE_float("label_smoothing", None, "Degree eps of --method=ls.")
    flags.DEFINE_integer(
        "num_levels",
        None,
        "Number R of robustness levels; the default is the paper's 10.",
        lower_bound=1,
    )
    flags.DEFINE_enum(
        "levels_from",
        "robustness",
        ["robustness", "confidence", "loss", "random"],
        "What the levels are cut from. The others are controls: confidence and loss of "
        "the vanilla model, or chance.",
    )
    flags.DEFINE_string(
        "refresh_epochs",
        None,
        "On-the-fly AR-AdaLS: epochs such as 65,130, counted from 0, before which the "
        "training and validation images are attacked anew with the model in training; "
        "recipe: the dataset's. Before the first the vanilla model's levels hold.",
    )
    flags.DEFINE_integer(
        "refresh_every", None, "Likewise, every so many epochs.", lower_bound=1
    )
    flags.DEFINE_integer(
        "ensemble_size",
        None,
        "Train so many members, with seeds from --seed upwards, into member_0, "
        "member_1, ... of the run directory, and average their probabilities.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "selection_examples",
        0,
        "Hold so many images out of the validation set, and measure them at the end: "
        "settings chosen by them are not chosen by images that moved the soft labels.",
        lower_bound=0,
    )
    for name, of in METHOD_SETTINGS.items():
        flags.DEFINE_string(name, None, of)  # Config reads the numbers, 8/255 too
    flags.DEFINE_enum(
        "mixed_precision",
        "none",
        ["none", "float16", "bfloat16"],
        "Number format of the layers' computations.",
    )
    flags.DEFINE_bool(
        "deterministic",
        False,
        "Allow only kernels that give the same bits every time, on a GPU too; slower.",
    )
    flags.DEFINE_bool("tensorboard", True, "Write TensorBoard logs into the run.")


def define_attack_flags() -> None:
    """Define what says how the robustness is found."""
    flags.DEFINE_enum(
        "attack",
        "cw",
        ["cw", "ddn", "deepfool", "margin", "cleverhans_cw_l2"],
        "How the distance to another class is found. cw: the paper's CW-L2. The "
        "others rank the images almost alike at a fraction of the cost: ddn (some 100 "
        "passes), deepfool (some Jacobians), margin (one Jacobian).",
    )
    flags.DEFINE_integer(
        "attack_iterations",
        None,
        "Iterations: of one search step of cw (500), of ddn in all (100).",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "attack_search_steps",
        None,
        "Binary search steps of cw; the default is 3.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "attack_top_k",
        None,
        "Of deepfool and margin: look only at so many rival classes, those of the "
        "largest logits after the predicted one's, so that 2 takes the three largest; "
        "the default is all.",
        lower_bound=1,
    )
    flags.DEFINE_enum(
        "attack_dtype",
        None,
        ["float32", "bfloat16"],
        "Number format in which the network's inner layers compute under attack; the "
        "default is float32. bfloat16 is faster on accelerators; distances and the "
        "final flip stay float32.",
    )


def define_strategy_flags() -> None:
    """Define what says which devices work together."""
    flags.DEFINE_enum(
        "strategy",
        "none",
        ["none", "mirrored", "multi_worker", "tpu"],
        "Which devices share the work. none: one. mirrored: all GPUs of this machine. "
        "multi_worker: the machines that TF_CONFIG lists; start the same command on "
        "each, with folders that all of them see. tpu: a TPU. Results do not depend "
        "on it: batches are global, and batch normalisation looks at all of them. Only "
        "the random starts of adversarial training do.",
    )
    flags.DEFINE_integer(
        "cpu_replicas",
        None,
        "Of --strategy=mirrored on a machine without a GPU: divide its processor into "
        "so many devices, to try it out.",
        lower_bound=1,
    )
    flags.DEFINE_string(
        "tpu",
        "",
        "Of --strategy=tpu: its name or address, or local on the machine that has it.",
    )


def define_measure_flags() -> None:
    """Define what says how to measure."""
    flags.DEFINE_integer(
        "num_bins",
        15,
        "Number of equal-width confidence bins of the expected calibration error.",
        lower_bound=1,
    )


def attack_settings() -> dict[str, Any]:
    """Return the attack's settings as the flags give them.

    Raises:
        InputError: If the attack does not know a setting that was given.
    """
    names = {
        "cw": {
            "attack_iterations": "iterations",
            "attack_search_steps": "search_steps",
        },
        "ddn": {"attack_iterations": "steps"},
        "deepfool": {"attack_iterations": "steps", "attack_top_k": "top_k"},
        "margin": {"attack_top_k": "top_k"},
    }
    names["cleverhans_cw_l2"] = names["cw"]
    known = {**names.get(FLAGS.attack, {}), "attack_dtype": "compute_dtype"}
    settings = {}
    for flag in (
        *("attack_iterations", "attack_search_steps", "attack_top_k"),
        "attack_dtype",
    ):
        value = FLAGS[flag].value
        if value is None:
            continue
        if flag not in known:
            raise InputError(
                f"--{flag} means nothing to --attack={FLAGS.attack}; leave it out"
            )
        settings[known[flag]] = value
    return settings


def training_config(**other: Any) -> Any:
    """Return the `Config` that the flags of `train` describe.

    Args:
        **other: What stands instead of a flag.
    """
    from ar_adals_tf.experiment.config import Config

    names = (
        *("seed", "split_seed", "output_dir", "vanilla_dir", "data_dir", "model"),
        *("epochs", "batch_size", "learning_rate", "dropout", "num_levels", "alpha"),
        *("label_smoothing", "attack", "validation_examples", "limit_examples"),
        *("num_bins", "mixed_precision", "deterministic", "tensorboard"),
        *("levels_from", "refresh_epochs", "refresh_every", "ensemble_size"),
        *("selection_examples", "adversarial_training", "schedule", "augmentation"),
    )
    given = {name: FLAGS[name].value for name in names}
    given["attack_settings"] = attack_settings()
    given["method_settings"] = {name: FLAGS[name].value for name in METHOD_SETTINGS}
    return Config.make(FLAGS.dataset, FLAGS.method, **given | other)


def load_splits(*names: str) -> Any:
    """Read the splits that the data flags describe."""
    from ar_adals_tf import datasets

    return datasets.load(
        FLAGS.dataset,
        data_dir=FLAGS.data_dir,
        split_seed=FLAGS.split_seed,
        validation_examples=FLAGS.validation_examples,
        limit_examples=FLAGS.limit_examples,
        splits=names,
    )


def run(main: Callable[[], None]) -> None:
    """Run a command: parse flags, quieten TensorFlow's start, print errors plainly.

    Exit status: 0 when all went well, 1 on unknown flags, 2 on input that cannot be
    used or a loss that is no longer a number, 130 when interrupted.
    """

    def guarded(arguments: Sequence[str]) -> None:
        if len(arguments) > 1:
            sys.exit(
                f"error: nothing is known of the argument {arguments[1]!r}; flags are "
                "written --name=value, see --help"
            )
        try:
            with quiet_libraries():
                import tensorflow as tf

                tf.config.list_physical_devices()
                for device in tf.config.list_physical_devices("GPU"):
                    tf.config.experimental.set_memory_growth(device, True)
            if not FLAGS["verbosity"].present:
                # Else every library that Python's logging knows tells of its work.
                logging.set_verbosity(logging.ERROR)
                tf.get_logger().setLevel("ERROR")
            with _strategy():
                main()
        except (InputError, FloatingPointError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("interrupted; the same command goes on where it was", file=sys.stderr)
            sys.exit(130)

    app.run(guarded)


@contextmanager
def _strategy() -> Iterator[None]:
    """Work by the strategy of the flags; of several workers one speaks for all."""
    from ar_adals_tf import files
    from ar_adals_tf.distribution.strategy import choose, lost_workers_named

    if "strategy" not in FLAGS:
        yield
        return
    choose(FLAGS.strategy, FLAGS.cpu_replicas, FLAGS.tpu)
    with (
        lost_workers_named(),
        open(os.devnull, "w") as nowhere,
        redirect_stdout(sys.stdout if files.writes() else nowhere),
    ):
        yield
