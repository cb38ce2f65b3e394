"""Choose a setting by the lowest validation ECE, as the paper does.

    python -m ar_adals_tf.sweep --dataset=cifar10 --method=ar_adals --param=alpha

trains a run for each of the paper's values (--values=0.005,0.01 for others), each in
its own directory under one folder, and writes there

    sweep.json    the value and the validation measures of every run
    sweep.png     the ECE over the values
    chosen.cfg    the flagfile of the chosen run, for python -m ar_adals_tf.train

What is trained already is not trained again. The choice looks only at validation
images, after the last epoch; every run also measures the test images, and the choice
does not see that. The validation images also move the soft labels of AdaLS and
AR-AdaLS during training, so they flatter what they chose; --selection_examples=1000
holds so many of them out of training for the choice alone.

A sweep over num_levels ends with the commands to the paper's Figure 4: the same runs on
clean and corrupted test images.

The paper's values: label_smoothing 0 to 0.1 by 0.01; alpha .005 .01 .05 .1 for adals
and .005 .01 .05 for ar_adals (ImageNet's adals also .03); num_levels 1 2 4 8 10 16.
"""

from pathlib import Path
from typing import Any

from absl import flags

from ar_adals_tf import command_line
from ar_adals_tf.errors import InputError

FLAGS = command_line.FLAGS

PARAMS = ("label_smoothing", "alpha", "num_levels")

_AXES = {
    "label_smoothing": "Label smoothing eps",
    "alpha": "Learning rate alpha of the soft labels",
    "num_levels": "Number of robustness levels R",
}


def main() -> None:
    """Train and compare what the flags say."""
    from ar_adals_tf import captions, figures
    from ar_adals_tf.files import atomic_write, read_json, writable_folder, write_json
    from ar_adals_tf.training.run import load_splits, train

    param = FLAGS.param or default_param(FLAGS.method)
    values = FLAGS.values or paper_values(FLAGS.dataset, FLAGS.method, param)
    base = command_line.training_config()
    folder = Path(FLAGS.output_dir or f"runs/{base.name}-sweep-{param}")
    configs = {
        value: command_line.training_config(
            **{param: parse(param, value), "output_dir": str(folder / run_name)}
        )
        for value, run_name in ((v, f"{param}={v}") for v in values)
    }
    _check_used(param, configs)
    writable_folder(folder, "--output_dir")
    splits = load_splits(base)
    images = "selection" if base.selection_examples else "validation"
    rows = {
        value: read_json(train(config, splits) / "metrics.json")[images]
        for value, config in configs.items()
    }
    chosen = choose({value: row["ece"] for value, row in rows.items()})
    write_json(
        folder / "sweep.json",
        {"param": param, "images": images, "chosen": chosen, "measures": rows},
    )
    with atomic_write(folder / "chosen.cfg") as aside:
        aside.write_text(_flagfile(param, chosen, rows[chosen]["ece"], images))
    figure = figures.draw_over_setting(
        [float(v) for v in rows],
        {"ECE": [100 * row["ece"] for row in rows.values()]},
        xlabel=_AXES[param],
        chosen=float(chosen),
        title=f"{base.title} on {base.dataset}, {images} images",
    )
    figures.save(figure, folder / "sweep.png", caption=captions.OVER_SETTING)
    print("\n" + table(param, rows, chosen, images))
    print(f"\nwritten to {folder}: sweep.json, sweep.png, chosen.cfg")
    if param == "num_levels":
        print(_to_figure_4(folder, [config.output_dir for config in configs.values()]))


def default_param(method: str) -> str:
    """Return the setting that the paper chooses for a method.

    Raises:
        InputError: If there is none.
    """
    from ar_adals_tf.methods.table import METHODS

    if METHODS[method].smoothed:
        return "label_smoothing"
    if METHODS[method].adaptive:
        return "alpha"
    raise InputError(
        f"--method={method} has no setting to sweep over; choose ls, adals or ar_adals"
    )


def paper_values(dataset: str, method: str, param: str) -> list[str]:
    """Return the values that the paper chooses from.

    Example:
        >>> paper_values("cifar10", "ar_adals", "alpha")
        ['0.005', '0.01', '0.05']
    """
    if param == "label_smoothing":
        return [f"{number / 100:g}" for number in range(11)]
    if param == "num_levels":
        return ["1", "2", "4", "8", "10", "16"]
    if method != "adals":
        return ["0.005", "0.01", "0.05"]
    more = ["0.03"] if dataset == "imagenet2012" else []
    return ["0.005", "0.01", *more, "0.05", "0.1"]


def parse(param: str, text: str) -> float | int:
    """Return a value of the sweep as a number.

    Raises:
        InputError: If it is none.
    """
    try:
        return int(text) if param == "num_levels" else float(text)
    except ValueError:
        raise InputError(
            f"--values of {param} must be numbers such as "
            f"{'1,4,10' if param == 'num_levels' else '0.01,0.05'}; received {text!r}"
        ) from None


def choose(ece: dict[str, float]) -> str:
    """Return the value with the lowest ECE; of equal ones the first.

    Example:
        >>> choose({"0.01": 0.02, "0.05": 0.01})
        '0.05'
    """
    return min(ece, key=ece.__getitem__)


def table(param: str, rows: dict[str, dict[str, Any]], chosen: str, images: str) -> str:
    """Return the comparison as text, the chosen value marked."""
    any_row = rows[chosen]
    lines = [
        f"{images} images, {any_row['num_bins']} bins; the lowest ECE is chosen",
        "",
        f"{param:>16}{'accuracy':>10}{'ECE (%)':>9}{'NLL':>8}",
    ]
    for value, row in rows.items():
        lines.append(
            f"{value:>16}{row['accuracy']:>10.1%}{100 * row['ece']:>9.2f}"
            f"{row['nll']:>8.3f}{'  chosen' if value == chosen else ''}"
        )
    return "\n".join(lines)


def _to_figure_4(folder: Path, runs: list[str]) -> str:
    """Return the commands from a sweep over R to the paper's Figure 4."""
    return (
        "\nthe paper's Figure 4, on clean and corrupted test images:\n"
        f"    for run in {' '.join(runs)}; do\n"
        "        python -m ar_adals_tf.evaluate --run_dir=$run --shift\n"
        "    done\n"
        f"    python -m ar_adals_tf.report --runs={','.join(runs)} "
        f"--output_dir={folder / 'report'}"
    )


def _check_used(param: str, configs: dict[str, Any]) -> None:
    """Refuse a sweep that cannot choose."""
    if FLAGS.validation_examples == 0:
        raise InputError(
            "a sweep chooses by validation images; leave --validation_examples=0 out"
        )
    if any(getattr(config, param) is None for config in configs.values()):
        raise InputError(
            f"--param={param} means nothing to --method={FLAGS.method}; choose "
            f"--param={default_param(FLAGS.method)}"
        )


def _flagfile(param: str, chosen: str, ece: float, images: str) -> str:
    """Return the flags that were given, with the chosen value."""
    given = [
        flag.serialize()
        for flag in FLAGS.flags_by_module_dict()[command_line.__name__]
        if flag.present and flag.name not in ("output_dir", param)
    ]
    for name in ("dataset", "method"):
        if not FLAGS[name].present:
            given.insert(0, f"--{name}={FLAGS[name].value}")
    return "\n".join(
        [
            f"# {param} chosen by the lowest ECE, {100 * ece:.2f} %, of the {images} "
            "images after the last epoch.",
            *given,
            f"--{param}={chosen}",
            "",
        ]
    )


command_line.define_data_flags()

command_line.define_training_flags()

command_line.define_attack_flags()

command_line.define_measure_flags()

flags.DEFINE_enum(
    "param", None, PARAMS, "What varies; the default is what the paper chooses."
)

flags.DEFINE_list("values", None, "Its values; the default is the paper's.")

flags.adopt_module_key_flags(command_line)

if __name__ == "__main__":
    command_line.run(main)
