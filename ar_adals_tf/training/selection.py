"""Choosing a setting by validation images; the paper does it by the lowest ECE."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ar_adals_tf import captions, figures, files
from ar_adals_tf.automatic import MOST_ALPHA, auto_alpha
from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.predictor import run_predictor
from ar_adals_tf.evaluation.results import read_metrics
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.plan import Plan
from ar_adals_tf.files import atomic_write, writable_folder, write_json
from ar_adals_tf.methods.table import METHODS
from ar_adals_tf.process.locks import LOCK, only_writer
from ar_adals_tf.training.choice import SELECT_BY, Choice, choose
from ar_adals_tf.training.run import check_folders, load_splits, train

#: The datasets whose recipe is the paper's, or has its alphas.
_OF_THE_PAPER = ("svhn_cropped", "cifar10", "cifar100", "imagenet2012")

#: The settings that can be chosen, and what a figure calls them.
AXES = {
    "label_smoothing": "Label smoothing eps",
    "alpha": "Learning rate alpha of the soft labels",
    "num_levels": "Number of robustness levels R",
}


def sweep(
    base: Config,
    param: str,
    values: Sequence[str] | None,
    folder: Path,
    given: Sequence[str],
    select_by: str = "ece",
    one_sd: bool = False,
) -> None:
    """Train a run for each value of a setting, compare them, and write the choice.

    Args:
        base: The settings of the runs, in which only the one setting varies.
        param: The setting, a key of `AXES`.
        values: Its values, as text. Defaults to `usual_values`.
        folder: Where everything is written. Each run lies in `<param>=<value>`.
        given: Flags for `chosen.cfg`, beside those of dataset, method and the choice.
        select_by: What is compared, a key of `choice.SELECT_BY`.
        one_sd: Whether the smallest value within one standard deviation of the lowest
            measure is chosen; see `choice.choose`.

    Raises:
        InputError: If there are no validation images, if the setting means nothing to
            the method, or if a value is no number.
    """
    tried = values or usual_values(base, param)
    configs = variants(base, param, tried, folder)
    for config in configs.values():
        check_folders(config)
    writable_folder(folder, "--output_dir")
    splits = load_splits(base)
    for config in configs.values():  # all are refused before the first is trained
        Plan.make(config, splits)
    if not values and len(tried) < 2:
        raise InputError(
            f"with --epochs={base.epochs} all {param}s that are tried by default are "
            f"{tried[0]}, so there is no choice; give --values or more epochs"
        )
    images = "selection" if base.selection_examples else "validation"
    rows, predictions = {}, {}
    for value, config in configs.items():
        run = train(config, splits)
        rows[value] = _measured(run, images)
        held_out = Plan.make(config, splits).splits[images]
        predictions[value] = run_predictor(run)(held_out, config.verbose)
    ascending = {value: predictions[value] for value in sorted(rows, key=float)}
    choice = choose(ascending, select_by, base.num_bins, one_sd)
    with only_writer(folder / LOCK):
        files.sweep(folder, "sweep.*", "chosen.cfg")
        _write(base, param, rows, choice, images, given, folder)
    print("\n" + _table(param, rows, choice, images))
    print(f"\nwritten to {folder}: sweep.json, sweep.png, chosen.cfg")
    if param == "num_levels":
        print("\n" + _way_to_figure_4(folder, [c.output_dir for c in configs.values()]))


def _write(
    base: Config,
    param: str,
    rows: Mapping[str, Mapping[str, Any]],
    choice: Choice,
    images: str,
    given: Sequence[str],
    folder: Path,
) -> None:
    """Write the three files of a sweep, which go together."""
    content = {
        "param": param,
        "images": images,
        "select_by": choice.by,
        "one_sd": choice.one_sd,
        "chosen": choice.chosen,
        "alike": choice.alike,
        "intervals": {value: choice.intervals[value]._asdict() for value in rows},
        "measures": rows,
    }
    write_json(folder / "sweep.json", content)
    lowest = _number(choice, choice.chosen)
    flags = [
        f"# {param} chosen by {choice.rule}, {lowest} {choice.unit}".rstrip()
        + f", of the {images} images after the last epoch.",
        f"--dataset={base.dataset}",
        f"--method={base.method}",
        *given,
        f"--{param}={choice.chosen}",
    ]
    with atomic_write(folder / "chosen.cfg") as aside:
        aside.write_text("\n".join(flags) + "\n")
    name = SELECT_BY[choice.by]
    shown = [choice.shown(value) for value in rows]
    figure = figures.draw_over_setting(
        [float(value) for value in rows],
        {name: [measure.estimate for measure in shown]},
        xlabel=AXES[param],
        ylabel=f"{name} ({choice.unit})" if choice.unit else name,
        chosen=float(choice.chosen),
        title=f"{base.title} on {base.dataset}, {images} images",
        intervals=[measure[1:] for measure in shown],
    )
    figures.save(figure, folder / "sweep.png", caption=captions.OVER_SETTING)


def _measured(run: Path, images: str) -> dict[str, Any]:
    """Return the measures of a run's validation or selection images."""
    metrics = read_metrics(run)
    if images not in metrics:
        raise InputError(
            f"{run / 'metrics.json'} has no measures of the {images} images; remove "
            "it to train the run again"
        )
    return metrics[images]


def default_param(method: str) -> str:
    """Return the setting that the paper chooses for a method, or raise `InputError`.

    Example:
        >>> default_param("ar_adals")
        'alpha'
    """
    if METHODS[method].smoothed:
        return "label_smoothing"
    if METHODS[method].adaptive:
        return "alpha"
    raise InputError(
        f"--method={method} has no setting to sweep over; choose ls, adals or ar_adals"
    )


def usual_values(base: Config, param: str) -> list[str]:
    """Return the values that are tried if none are given: the paper's.

    p moves once an epoch, so alpha times the epochs is what the paper's alphas mean. It
    is kept where there are other epochs than the recipe's. A recipe that is not the
    paper's has the products of CIFAR-10 and `auto`'s, and no alpha above `auto`'s most.

    Example:
        >>> usual_values(Config.make("cifar10", "ar_adals"), "alpha")
        ['0.005', '0.01', '0.05']
        >>> usual_values(Config.make("fashion_mnist_small", "ar_adals"), "alpha")
        ['0.05', '0.1', '0.25', '0.5']
    """
    values = paper_values(base.dataset, base.method, param)
    if param != "alpha":
        return values
    ours = base.finetune or base.dataset not in _OF_THE_PAPER
    recipe = DATASETS["cifar10"].recipe if ours else base.recipe
    epochs = max(1, base.epochs)  # 0 where nothing is trained, which `sweep` refuses
    alphas = [float(value) * recipe.epochs / epochs for value in values]
    if ours:
        alphas = sorted([*alphas, auto_alpha(epochs)])
    most = MOST_ALPHA if ours else 1.0
    return list(dict.fromkeys(f"{min(most, alpha):g}" for alpha in alphas))


def paper_values(dataset: str, method: str, param: str) -> list[str]:
    """Return the values that the paper chooses from, alphas for its own epochs.

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


def variants(
    base: Config, param: str, values: Sequence[str], folder: Path
) -> dict[str, Config]:
    """Return the settings of each run, by the value as text.

    Raises:
        InputError: If the runs could not be compared by it.

    Example:
        >>> base = Config.make("cifar10", "ls")
        >>> runs = variants(base, "label_smoothing", ["0", "0.1"], Path("runs/ls"))
        >>> runs["0.1"].label_smoothing, runs["0.1"].output_dir
        (0.1, 'runs/ls/label_smoothing=0.1')
    """
    if base.validation_examples == 0:
        raise InputError(
            "a sweep chooses by validation images; leave --validation_examples=0 out"
        )
    if getattr(base, param) is None:
        raise InputError(
            f"--param={param} means nothing to --method={base.method}; choose "
            f"--param={default_param(base.method)}"
        )
    if len(set(values)) < len(values):
        raise InputError(
            f"--values must differ from one another; received {','.join(values)}; give "
            "each of them once"
        )
    configs = {}
    for value in values:
        own = {param: parse(param, value), "output_dir": f"{folder}/{param}={value}"}
        configs[value] = Config.make(**base.as_dict() | own)
    return configs


def parse(param: str, text: str) -> float | int:
    """Return a value of the sweep as a number, or raise an `InputError`.

    Example:
        >>> parse("num_levels", "10"), parse("alpha", "0.05")
        (10, 0.05)
    """
    try:
        return int(text) if param == "num_levels" else float(text)
    except ValueError:
        raise InputError(
            f"--values of {param} must be numbers such as "
            f"{'1,4,10' if param == 'num_levels' else '0.01,0.05'}; received {text!r}"
        ) from None


def _table(
    param: str, rows: Mapping[str, Mapping[str, Any]], choice: Choice, images: str
) -> str:
    """Return the comparison as a table in text, the chosen value marked."""
    bins = rows[choice.chosen]["num_bins"]
    lines = [
        f"{images} images, {bins} bins; {choice.rule} is chosen",
        "",
        f"{param:>16}{'accuracy':>10}{'ECE (%)':>9}{'NLL':>8}{'Brier':>8}   "
        f"{SELECT_BY[choice.by]} [95 % interval]",
    ]
    for value, row in rows.items():
        lines.append(
            f"{value:>16}{row['accuracy']:>10.1%}{100 * row['ece']:>9.2f}"
            f"{row['nll']:>8.3f}{row['brier']:>8.3f}   {_number(choice, value, True)}"
            f"{'  chosen' if value == choice.chosen else ''}"
        )
    if len(choice.alike) > 1:
        lines += [
            "",
            f"Not significantly worse than the lowest: {', '.join(choice.alike)} "
            "(paired difference on these images, 95 %).",
        ]
    return "\n".join(lines)


def _number(choice: Choice, value: str, interval: bool = False) -> str:
    digits = 2 if choice.unit == "%" else 3
    estimate, low, high = (f"{number:.{digits}f}" for number in choice.shown(value))
    return f"{estimate} [{low}, {high}]" if interval else estimate


def _way_to_figure_4(folder: Path, runs: Sequence[str]) -> str:
    """Return the commands that lead from a sweep over R to the paper's Figure 4."""
    return (
        "the paper's Figure 4, on clean and corrupted test images:\n"
        f"    for run in {' '.join(runs)}; do\n"
        "        python -m ar_adals_tf.evaluate --run_dir=$run --shift\n"
        "    done\n"
        f"    python -m ar_adals_tf.report --runs={','.join(runs)} "
        f"--output_dir={folder / 'report'}"
    )
