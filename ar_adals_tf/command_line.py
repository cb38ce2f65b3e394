"""The flags of all commands, and how commands begin and end.

The flags of settings follow from the settings' declarations; see
`ar_adals_tf.experiment.flags`. TensorFlow is imported only when a command starts its
work, so that `--help` answers at once.
"""

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

from absl import app, flags, logging

from ar_adals_tf.attacks.table import DEFAULT_EPSILONS
from ar_adals_tf.datasets.generic import recipe_of
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.completion import usual_attack
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.flagfiles import with_flagfiles
from ar_adals_tf.experiment.flags import (
    Flag,
    attack_flags,
    attack_settings_from,
    config_flags,
    config_from,
    group_flags,
)
from ar_adals_tf.process import interruption
from ar_adals_tf.process.endings import ending
from ar_adals_tf.process.imports import import_modules
from ar_adals_tf.process.quiet import quiet_libraries
from ar_adals_tf.process.streams import lasting_streams

FLAGS = flags.FLAGS

#: More parts of a processor than that take minutes to make and serve nobody.
MOST_REPLICAS = 64


def define(*groups: str) -> None:
    """Define the flags of groups of settings; see `experiment.flags.group_flags`."""
    for flag in group_flags(*groups):
        if flag.choices:
            flags.DEFINE_enum(flag.name, flag.default, list(flag.choices), flag.help)
        elif flag.kind is bool:
            flags.DEFINE_bool(flag.name, flag.default, flag.help)
        elif flag.kind is int:
            limits = {"lower_bound": flag.least, "upper_bound": flag.most}
            flags.DEFINE_integer(flag.name, flag.default, flag.help, **limits)
        elif flag.kind is float:
            flags.DEFINE_float(flag.name, flag.default, flag.help)
        else:
            flags.DEFINE_string(flag.name, flag.default, flag.help)


def define_strategy_flags() -> None:
    """Define the flags that say which devices work together."""
    flags.DEFINE_enum(
        "strategy",
        "none",
        ["none", "mirrored", "multi_worker", "tpu"],
        "Which devices share the work. Batches are global, and batch normalisation "
        "looks at the images of all devices. So the results do not depend on it, "
        "except for which images of a batch adversarial training attacks, its random "
        "starts, and the noise of --noise_sigma.\n"
        "none: one device.\n"
        "mirrored: all GPUs of this machine.\n"
        "multi_worker: the machines that TF_CONFIG lists. Start the same command on "
        "each, with folders that all of them see.\n"
        "tpu: a TPU.",
    )
    flags.DEFINE_integer(
        "cpu_replicas",
        None,
        "Divide the processor into this number of devices, to try --strategy=mirrored "
        "on a machine without a GPU.",
        lower_bound=1,
        upper_bound=MOST_REPLICAS,
    )
    flags.DEFINE_string(
        "tpu",
        "",
        "The TPU of --strategy=tpu: its name or address, or local on the machine that "
        "has it.",
    )


def define_import_flag() -> None:
    """Define the flag that names modules of one's own; see `import_modules`."""
    flags.DEFINE_list(
        "import",
        None,
        "Python modules to import before a model is loaded, such as my_layers. They "
        "are your own code, which registers the layers that a .keras file needs "
        "(@keras.saving.register_keras_serializable()). No other code is run: a Lambda "
        "layer is refused.",
    )


def define_members_flag() -> None:
    """Define the flag that names the members of an ensemble."""
    flags.DEFINE_list(
        "members",
        None,
        "Finished runs, in the order of their seeds, that an ensemble takes as its "
        "members instead of training them. Its folder keeps copies of their models.",
    )


def define_swept_flag() -> None:
    """Define the flag that names the sweep whose chosen run is taken over."""
    flags.DEFINE_string(
        "swept",
        None,
        "The folder of a finished sweep. A run in it that has the same settings, such "
        "as the chosen one, is copied instead of trained again.",
    )


def define_test_flags() -> None:
    """Define the flags that say which shifts and attacks models are measured under."""
    flags.DEFINE_bool("shift", False, "Measure on corrupted test images as well.")
    flags.DEFINE_list(
        "shift_types", None, "Such as fog,contrast; default: the dataset's."
    )
    flags.DEFINE_list("severities", ["1", "2", "3", "4", "5"], "Severities, 1 to 5.")
    flags.DEFINE_enum(
        "shift_source",
        "auto",
        ["auto", "tfds", "published", "generated"],
        "Where corrupted images come from. tfds: TensorFlow Datasets, downloaded if "
        "need be. published: the authors' .npy files in CIFAR-100-C/ of --data_dir. "
        "generated: made here. auto: one of the first two if all of it is on disk, "
        "else made here.",
    )
    flags.DEFINE_string(
        "shift_cache_dir",
        None,
        "A folder that keeps the corrupted images that are made here. Other "
        "evaluations on the same images take them from it; the results are the same.",
    )
    flags.DEFINE_list(
        "attacks",
        None,
        "Measure under attack as well: fgsm, pgd; pgd_conf, which makes wrong classes "
        "sure; autoattack or its parts apgd_ce, apgd_t, fab_t, square; "
        "underconfidence, overconfidence, miscalibration, which change confidences and "
        "no predicted class.",
    )
    flags.DEFINE_enum(
        "attack_norm",
        "linf",
        ["linf", "l2"],
        "The norm of all attacks but fgsm, pgd and pgd_conf, which are in linf.",
    )
    strengths = [f"{epsilon:g}" for epsilon in DEFAULT_EPSILONS]
    flags.DEFINE_list("epsilons", strengths, "Strengths over 255.")


def values(*names: str) -> Any:
    """Return the values of flags, in the order of their names."""
    return tuple(FLAGS[name].value for name in names)


def given(*names: str) -> dict[str, Any]:
    """Return the values of the flags that were given; other names are ignored."""
    return {n: FLAGS[n].value for n in names if n in FLAGS and FLAGS[n].present}


def names(*groups: str) -> list[str]:
    """Return the names of the flags of groups of settings."""
    return [flag.name for flag in group_flags(*groups)]


def given_settings(*apart: str) -> list[str]:
    """Return the settings that were given, apart from some, as a flagfile's lines."""
    own = FLAGS.flags_by_module_dict()[__name__]
    return [f.serialize() for f in own if f.present and f.name not in apart]


def chosen_attack(dataset: str) -> tuple[str, dict[str, Any]]:
    """Return the attack that the flags name, and its settings as they give them.

    Args:
        dataset: What is attacked, a key of `DATASETS` or other data. It has an attack
            for the case that none is named.
    """
    attack = FLAGS.attack or usual_attack(recipe_of(dataset), None)
    return attack, attack_settings_from(attack, _values_of(attack_flags()))


def training_config() -> Config:
    """Return the settings that the flags of `train` describe."""
    from ar_adals_tf.datasets.records import prepare

    prepare(*values("dataset", "data_dir"))
    settings = _values_of(group_flags())
    if not FLAGS["levels_from"].present:
        settings["levels_from"] = None  # --vanilla=none has another default
    return config_from(settings)


def _values_of(described: Iterable[Flag]) -> dict[str, Any]:
    return {flag.name: FLAGS[flag.name].value for flag in described}


def load_splits(*names: str) -> Any:
    """Read the splits that the data flags describe."""
    from ar_adals_tf import datasets

    described = _values_of(config_flags("data"))
    return datasets.load(described.pop("dataset"), splits=names, **described)


def run(main: Callable[[], None]) -> None:
    """Run a command: parse flags, quieten TensorFlow's start, print errors plainly.

    The exit status is 0 when all went well, 2 on flags or input that cannot be used, a
    loss that is no number, or a disk or memory that is full, and 130 after an
    interruption. 1 is left for a fault of this package, which ends with a traceback. A
    reader of the output that goes away stops nothing.
    """

    def work(arguments: Sequence[str]) -> None:
        if len(arguments) > 1:
            raise InputError(
                f"nothing is known of the argument {arguments[1]!r}; flags are written "
                "--name=value, see --help"
            )
        _start_tensorflow()
        import_modules(given("import").get("import") or [])
        interruption.raise_in_work()
        with _strategy():
            main()

    with lasting_streams():
        try:
            app.run(work, flags_parser=_parse)
        except (Exception, KeyboardInterrupt) as error:
            _leave(error)
        finally:
            interruption.say_no_more()
            sys.stdout.flush()


def _leave(error: BaseException) -> None:
    """Say why the command ends, and end it. Faults of this package are raised again."""
    from ar_adals_tf.files import remove_empty_folders
    from ar_adals_tf.process.progress import close_bars

    interruption.say_no_more()
    close_bars()
    remove_empty_folders()
    ended = ending(error)
    if ended is None:
        raise error
    status, sentence = ended
    start = interruption.line_start(sys.stderr.isatty())
    print(start + sentence, file=sys.stderr)
    sys.exit(status)


def _parse(arguments: list[str]) -> list[str]:
    """Parse the flags; see `with_flagfiles`, which comes before absl's own reading."""
    try:
        rest = FLAGS(with_flagfiles(arguments))
    except flags.Error as error:
        raise InputError(f"{_plain(str(error))}; see --help") from error
    except SystemExit:  # the help is printed
        sys.exit(0)
    for flag in (FLAGS[name] for name in FLAGS):
        if flag.present:
            _check_text(flag.name, flag.value)
            flag.value = _with_home(flag.value)
    return rest


def _with_home(value: Any) -> Any:
    """Return a flag's value with the home folder in the place of a `~` that begins it.

    The shell leaves the `~` of --flag=~/a as it is.

    Example:
        >>> _with_home(["runs/a", "~/b"]) == ["runs/a", f"{os.path.expanduser('~')}/b"]
        True
    """
    if isinstance(value, list):
        return [_with_home(one) for one in value]
    return os.path.expanduser(value) if isinstance(value, str) else value


def _plain(words: str) -> str:
    """Say on one line, and without Python's own terms, what absl does not understand.

    Example:
        >>> _plain("flag --epochs=x: invalid literal for int() with base 10: 'x'")
        "flag --epochs=x: not a whole number: 'x'"
        >>> _plain("Unknown command line flag 'epoch'. Did you mean: epochs ?")
        "Unknown command line flag 'epoch'. Did you mean: epochs"
    """
    for theirs, ours in {
        "invalid literal for int() with base 10": "not a whole number",
        "could not convert string to float": "not a number",
        "ERROR:: ": "",
    }.items():
        words = words.replace(theirs, ours)
    return " ".join(words.split()).removesuffix(" ?")


def _check_text(name: str, value: Any) -> None:
    """Refuse a flag's text that is empty or that no file can be called.

    An empty text often comes from a variable of the shell that is not set.
    """
    for text in (value or [""]) if isinstance(value, list) else [value]:
        if not isinstance(text, str):
            continue
        if not text.strip():
            raise InputError(
                f"--{name} must not be empty or have empty entries; received "
                f"{value!r}; give a value, or leave the flag out"
            )
        if "\0" in text or text.encode(errors="replace") != os.fsencode(text):
            raise InputError(
                f"--{name} must be text in UTF-8 without null characters; received "
                f"{text!r}; write it in UTF-8"
            )


def _start_tensorflow() -> None:
    """Import TensorFlow without its greetings; take GPU memory only as needed."""
    with quiet_libraries():
        import tensorflow as tf

        tf.config.list_physical_devices()
        for device in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(device, True)
    from ar_adals_tf.process.progress import show_warning_above_bars

    warnings.showwarning = show_warning_above_bars
    if not given("verbosity"):
        # Otherwise every library that uses Python's logging would print its progress.
        logging.set_verbosity(logging.ERROR)
        tf.get_logger().setLevel("ERROR")


@contextmanager
def _strategy() -> Iterator[None]:
    """Use the strategy that the flags name. With several workers only one prints."""
    from ar_adals_tf import files
    from ar_adals_tf.distribution.strategy import choose, together

    if "strategy" not in FLAGS:
        yield
        return
    choose(*values("strategy", "cpu_replicas", "tpu"))
    with (
        together(),
        open(os.devnull, "w") as nowhere,
        redirect_stdout(sys.stdout if files.writes() else nowhere),
    ):
        yield
