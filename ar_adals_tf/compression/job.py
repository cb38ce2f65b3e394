"""Compresses a run: prunes it, trains it on, quantises it, and measures it all."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ar_adals_tf.attacks.table import BOUNDED_ATTACKS, DEFAULT_EPSILONS
from ar_adals_tf.bounds import Bound
from ar_adals_tf.compression.costs import measure_costs
from ar_adals_tf.compression.finetuning import (
    Finetuning,
    default_rate,
    refuse_feedback,
)
from ar_adals_tf.compression.pruning import prune
from ar_adals_tf.corruptions.apply import SEVERITIES
from ar_adals_tf.datasets.corrupted import find_source
from ar_adals_tf.datasets.splits import Split
from ar_adals_tf.digests import digest_file
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.compressed import (
    COMPRESSION_FILE,
    FORMATS,
    Compressed,
    find_compressed,
)
from ar_adals_tf.evaluation.footprint import BATCH_SIZE, QUANTISATION_IMAGES, to_lite
from ar_adals_tf.evaluation.measures import saved_temperature, summary
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.results import describe_measures, read_metrics
from ar_adals_tf.evaluation.shift import check_available
from ar_adals_tf.evaluation.subject import OWN_VALIDATION
from ar_adals_tf.evaluation.suite import evaluate
from ar_adals_tf.evaluation.under_attack import (
    attacks_in_norm,
    parse_epsilons,
)
from ar_adals_tf.evaluation.wanted import (
    given_arguments,
    parse_severities,
    refuse_idle_measures,
    types_of,
)
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.runs import (
    digest_run,
    find_test_index,
    finished_config,
    load_model,
)
from ar_adals_tf.experiment.settings import MANY, OF_THE_DATA
from ar_adals_tf.files import (
    atomic_write,
    refuse_overwriting,
    sweep,
    writable_folder,
)
from ar_adals_tf.process.locks import LOCK, only_writer
from ar_adals_tf.training.run import load_splits

KERAS, LITE = "model.keras", "model.tflite"

#: What evaluates the folders alike, beside what the run says.
_Flags = dict[str, Any]


def compress(
    run_dir: str | Path,
    *,
    sparsity: Sequence[float | str] = (0.5, 0.7, 0.9),
    formats: Sequence[str] = ("float16", "int8"),
    epochs: int = 2,
    learning_rate: float | None = None,
    output_dir: str | Path | None = None,
    data_dir: str | None = None,
    shift: bool = False,
    shift_types: Sequence[str] | None = None,
    severities: Sequence[int | str] = SEVERITIES,
    shift_source: str = "auto",
    shift_cache_dir: str | Path | None = None,
    attacks: Sequence[str] | None = None,
    epsilons: Sequence[float | str] = DEFAULT_EPSILONS,
    attack_norm: str = "linf",
    say: Callable[[str], Any] = print,
) -> Path:
    """Compress a finished run in several ways, and measure each model as the run.

    Each model has a folder of its own, which `evaluate` and `write_report` take. The
    model that is not pruned is made and measured as well, in every format: it is what
    the others are compared with. What is there already is left as it is; an
    interrupted job goes on.

    Args:
        run_dir: A finished run of one model.
        sparsity: Shares of the weights to prune, in [0, 1); see `pruning.prune`.
        formats: `float16`, `int8`: formats of LiteRT to convert each model to, beside
            its `.keras` file in float32.
        epochs: How long a pruned model is trained on, by the run's own method.
        learning_rate: Its constant learning rate. Defaults to a tenth of the run's.
        output_dir: Where the folders go. Defaults to `<run>-compressed` beside the run.
        data_dir: Where TFDS keeps its data. Defaults to the run's setting.
        shift: Whether to measure on corrupted images; also the next four, see
            `evaluate`.
        shift_types: Corruptions.
        severities: Their severities.
        shift_source: Where they come from.
        shift_cache_dir: A folder that keeps those that are made.
        attacks: Attacks, see `evaluate`. Models of LiteRT have no gradient; they are
            measured under `square` alone.
        epsilons: Their strengths.
        attack_norm: The norm of those that have two.
        say: Takes each line for people.

    Returns:
        The folder that has a folder for each model, such as `pruned50-int8`.

    Raises:
        InputError: On arguments that do not fit, a run that is not finished or averages
            several models, what its training depended on being absent, a network that
            cannot be converted, or a folder with something else.
    """
    refuse_idle_measures(given_arguments(compress, locals()))
    run = Path(run_dir)
    shares = parse_sparsity(sparsity)
    kinds = _parse_formats(formats)
    names = attacks_in_norm(attacks or (), attack_norm)
    if names:
        parse_epsilons(epsilons, names)
    strengths = parse_severities(severities)
    if not Bound(least=0, most=MANY).allows(epochs):
        raise InputError(f"--epochs must be from 0 to {MANY}; received {epochs}")
    if learning_rate is not None and not 0 < learning_rate < float("inf"):
        raise InputError(
            f"--learning_rate must be above 0 and finite; received {learning_rate}"
        )
    config = _finished(run, data_dir)
    if epochs and any(shares):
        refuse_feedback(config)
    root = Path(output_dir or f"{run}-compressed")
    refuse_overwriting(root, [run], "--output_dir")
    if (root / "config.json").exists():
        raise InputError(
            f"--output_dir {root} is a run directory (it has a config.json); give "
            "another folder"
        )
    shifted: _Flags = {"shift_types": shift_types, "severities": strengths}
    shifted |= {"shift_source": shift_source, "shift_cache_dir": shift_cache_dir}
    splits = load_splits(config)
    if shift:  # refused now, and not after the training
        _check_shift(config, splits["test"], shift_types, strengths, shift_source)
        if shift_cache_dir:
            writable_folder(shift_cache_dir, "--shift_cache_dir")
    job = _Job(run, config, splits, root, epochs, learning_rate, say)
    job.check(shares, kinds)
    writable_folder(root, "--output_dir")
    with only_writer(root / LOCK, say):
        job.check(shares, kinds)  # another process may have made something meanwhile
        folders = [folder for s in shares for folder in job.models(s, kinds)]
        job.evaluate_clean(folders)
        how: _Flags = {"robustness_index": job.index, "data_dir": data_dir, "say": say}
        if shift:
            evaluate(folders, shift=True, **shifted, **how)
        for some, able in _by_gradient(folders, names, say):
            how |= {"epsilons": epsilons, "attack_norm": attack_norm}
            evaluate(some, attacks=able, **how)
        job.measure_costs(folders)
    say(_table(folders))
    together = ",".join(map(str, [run, *folders]))
    say(f"a report: python -m ar_adals_tf.report --runs={together}")
    return root


def parse_sparsity(values: Sequence[float | str]) -> list[float]:
    """Return shares of weights to prune, ascending, each once, after 0.

    Raises:
        InputError: If one is no number, or outside [0, 1).

    Example:
        >>> parse_sparsity(["0.9", "0.5"])
        [0.0, 0.5, 0.9]
    """
    try:
        found = {float(value) for value in values}
    except ValueError:
        found = {-1.0}
    if not all(0 <= share < 1 for share in found):
        raise InputError(
            "--sparsity takes shares of the weights from 0 to below 1; received "
            f"{','.join(map(str, values))}; such as --sparsity=0.5,0.9"
        )
    ascending = sorted({0.0} | found)
    for one, other in itertools.pairwise(ascending):
        if _prefix(one) == _prefix(other):
            raise InputError(
                f"--sparsity has {one} and {other}, whose models would lie in one "
                f"folder, {_prefix(one)}-float32; leave out one of them"
            )
    return ascending


def _prefix(sparsity: float) -> str:
    """Return how the folders of a sparsity begin."""
    return f"pruned{100 * sparsity:g}" if sparsity else "whole"


def _parse_formats(names: Sequence[str]) -> list[str]:
    if not set(names) <= set(FORMATS):
        raise InputError(
            f"--formats must be among {', '.join(FORMATS)}; received "
            f"{','.join(names)}; such as --formats=float16,int8"
        )
    return [name for name in FORMATS if name == "float32" or name in names]


def _finished(run: Path, data_dir: str | None) -> Config:
    """Return the settings of a run that can be compressed."""
    config = finished_config(run)
    if config.ensemble_size == 1 and not (run / KERAS).is_file():
        raise InputError(
            f"{run} has no {KERAS}, so there is nothing to compress; give another run"
        )
    if config.ensemble_size > 1:
        raise InputError(
            f"{run} averages {config.ensemble_size} models, and one model is "
            "compressed at a time; give a run of one model"
        )
    where = data_dir or config.data_dir
    return dataclasses.replace(config, data_dir=where, verbose=False)


def _check_shift(
    config: Config,
    test: Split,
    shift_types: Sequence[str] | None,
    severities: Sequence[int],
    kind: str,
) -> None:
    """Refuse corrupted images that cannot be had."""
    types = list(shift_types or types_of(test.dataset, test.info))
    source = find_source(
        test,
        kind,
        types,
        severities,
        data_dir=config.data_dir,
        split_seed=config.split_seed,
        validation_examples=config.validation_examples,
    )
    if shift_types:  # of all types, `evaluate` leaves out those that are not there
        check_available(types, source)


def _by_gradient(
    folders: Sequence[Path], names: Sequence[str], say: Callable[[str], Any]
) -> list[tuple[list[Path], list[str]]]:
    """Return which folders are measured under which attacks."""
    keras_ones = [one for one in folders if (one / KERAS).exists()]
    lite_ones = [one for one in folders if one not in keras_ones]
    plain = [name for name in names if not BOUNDED_ATTACKS[name].needs_gradient]
    if lite_ones and (left := [name for name in names if name not in plain]):
        say(
            f"{', '.join(left)} need a gradient, so models of LiteRT are left out of "
            "them (square needs none)"
        )
    cases = [(keras_ones, list(names)), (lite_ones, plain)]
    return [(some, able) for some, able in cases if some and able]


class _Job:
    """One run and its compressed models."""

    def __init__(
        self,
        run: Path,
        config: Config,
        splits: Mapping[str, Split],
        root: Path,
        epochs: int,
        learning_rate: float | None,
        say: Callable[[str], Any],
    ) -> None:
        self._run, self._config, self._splits = run, config, splits
        self._root, self._epochs, self._say = root, epochs, say
        self._rate = learning_rate or default_rate(config)
        self._digest = digest_run(run)

    @functools.cached_property
    def _finetuning(self) -> Finetuning:
        return Finetuning(self._run, self._config, self._splits, self._rate)

    @functools.cached_property
    def index(self) -> Path | None:
        """The index that cuts the test images into the same levels for all models."""
        images = self._splits["test"].digest()
        return find_test_index(self._run, self._config, images).path

    @functools.cached_property
    def _ranging(self) -> np.ndarray:
        """Training images that set the ranges of int8."""
        return next(iter(self._splits["train"].batches(QUANTISATION_IMAGES)))[1].numpy()

    def check(self, shares: Sequence[float], formats: Sequence[str]) -> None:
        """Refuse, before anything is made, what could not be made in its turn."""
        for sparsity in shares:
            for kind in formats:
                folder, file = self._place(sparsity, kind)
                _refuse_others(folder, file, self._wanted(sparsity, kind))
            folder, file = self._place(sparsity, "float32")
            if sparsity and self._epochs and not _is_there(folder, file):
                _ = self._finetuning  # reads what the run's training depended on

    def _place(self, sparsity: float, kind: str) -> tuple[Path, Path]:
        """Return the folder of a model, and its file."""
        folder = self._root / f"{_prefix(sparsity)}-{kind}"
        return folder, folder / (KERAS if kind == "float32" else LITE)

    def models(self, sparsity: float, formats: Sequence[str]) -> list[Path]:
        """Make the models of a sparsity that are not there; return all folders."""
        model: keras.Model | None = None
        folders: list[Path] = []
        for kind in formats:
            folder, file = self._place(sparsity, kind)
            folders.append(folder)
            folder.mkdir(exist_ok=True)
            sweep(folder, KERAS, LITE, COMPRESSION_FILE, "checkpoint.npz")
            if _is_there(folder, file):
                self._say(f"{file} is there already")
                continue
            wanted = self._wanted(sparsity, kind)
            wanted.save(folder)  # whose the file is, should the work be interrupted
            if kind == "float32":
                self._void_conversions(sparsity)
                self._save_keras(sparsity, folder, file)
            else:
                model = model or load_model(folders[0] / KERAS)
                ranging = None if kind == "float16" else self._ranging
                instead = f"leave {kind} out of --formats"
                content = to_lite(
                    model, ranging, float16=kind == "float16", instead=instead
                )
                with atomic_write(file) as aside:
                    aside.write_bytes(content)
            dataclasses.replace(wanted, digest=digest_file(file)).save(folder)
            self._say(f"{file}: {wanted.name}, {file.stat().st_size / 1e6:.2f} MB")
        return folders

    def _void_conversions(self, sparsity: float) -> None:
        """Let the other formats be made again: they are made from the float32 file."""
        for kind in FORMATS:
            folder, _ = self._place(sparsity, kind)
            if about := find_compressed(folder):
                dataclasses.replace(about, digest="").save(folder)

    def _wanted(self, sparsity: float, kind: str) -> Compressed:
        epochs = self._epochs if sparsity else 0
        return Compressed(
            title=self._config.title,
            run_digest=self._digest,
            sparsity=sparsity,
            format=kind,
            epochs=epochs,
            learning_rate=self._rate if epochs else None,
            digest="",
        )

    def _save_keras(self, sparsity: float, folder: Path, file: Path) -> None:
        model = load_model(self._run / KERAS)
        if sparsity and self._epochs:
            self._finetuning.pruned(model, sparsity, self._epochs, folder)
        elif sparsity:
            prune(model, sparsity)
        plain = keras.Model(model.input, model.output, name=model.name)
        with atomic_write(file) as aside:
            plain.save(aside)

    def evaluate_clean(self, folders: Sequence[Path]) -> None:
        """Measure on the clean test set, each with a temperature of its own."""
        config = self._config
        validated = OWN_VALIDATION if len(self._splits["validation"]) else None
        for folder in folders:
            about = find_compressed(folder)
            assert about is not None
            file = folder / (KERAS if about.format == "float32" else LITE)
            evaluate(
                model_file=file,
                output_dir=folder,
                title=f"{config.title}, {about.name}",
                dataset=config.dataset,
                validation=validated,
                num_bins=config.num_bins,
                robustness_index=self.index,
                say=self._say,
                **{name: getattr(config, name) for name in OF_THE_DATA},
            )
            self._measure_runs_temperature(folder, about)

    def _measure_runs_temperature(self, folder: Path, about: Compressed) -> None:
        """Measure with the run's temperature, which came before the compression."""
        temperature = saved_temperature(self._run)
        if temperature is None:
            return
        found = Predictions.load(folder / "predictions.npz").at(temperature)
        clean = summary(found.labels, found.probabilities, self._config.num_bins)
        measured = {"temperature": temperature, "clean": clean}
        dataclasses.replace(about, runs_temperature=measured).save(folder)

    def measure_costs(self, folders: Sequence[Path]) -> None:
        """Measure size, time and memory of all models in turn, unless all have them."""
        known = {folder: find_compressed(folder) for folder in folders}
        if all(about and about.costs for about in known.values()):
            return
        files = {f: next(p for p in (f / KERAS, f / LITE) if p.exists()) for f in known}
        batch = next(iter(self._splits["test"].batches(BATCH_SIZE)))[1].numpy()
        found = measure_costs(list(files.values()), batch)
        for (folder, about), costs in zip(known.items(), found, strict=True):
            assert about is not None
            dataclasses.replace(about, costs=costs).save(folder)


def _refuse_others(folder: Path, file: Path, wanted: Compressed) -> None:
    """Refuse a folder that holds something else than the model, or part of it.

    Raises:
        InputError: If it does.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is no folder; give another --output_dir")
    about = find_compressed(folder)
    if about is None and file.exists():
        raise InputError(
            f"{folder} holds {file.name} and no {COMPRESSION_FILE}, so compress did "
            "not make it; give another --output_dir"
        )
    if about is not None and about.recipe != wanted.recipe:
        how = (
            f"of the run {about.run_digest}, {about.name}, {about.epochs} epochs at "
            f"{about.learning_rate}"
        )
        raise InputError(
            f"{folder} holds a model that was made otherwise ({how}); remove it, or "
            "give another --output_dir"
        )


def _is_there(folder: Path, file: Path) -> bool:
    """Tell whether the model of a folder is made, and whole."""
    about = find_compressed(folder)
    return about is not None and file.exists() and digest_file(file) == about.digest


def _table(folders: Sequence[Path]) -> str:
    """Return a line for each model: what it is, costs and measures."""
    lines = []
    for folder in folders:
        about, metrics = find_compressed(folder), read_metrics(folder)
        assert about is not None
        costs = about.costs
        line = (
            f"{about.name}: {costs['file_bytes'] / 1e6:.2f} MB, compressed by gzip "
            f"{costs['gzip_bytes'] / 1e6:.2f} MB, "
            f"{1e3 * costs['seconds_per_image']:.3f} ms an image; "
            f"{describe_measures(metrics['clean'])}"
        )
        if about.runs_temperature:
            ece = about.runs_temperature["clean"]["ece"]
            line += f"; ECE with the run's temperature {100 * ece:.2f} %"
        if scaled := metrics.get("temperature_scaled"):
            line += f", with its own {100 * scaled['clean']['ece']:.2f} %"
        lines.append(line)
    return "\n".join(lines)
