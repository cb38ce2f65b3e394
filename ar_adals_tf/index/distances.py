"""How the distances of a robustness index are computed, shard by shard."""

import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ar_adals_tf.digests import digest_model
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.arrays import Source, as_examples
from ar_adals_tf.finite import NotFiniteError
from ar_adals_tf.index.file import FORMAT
from ar_adals_tf.index.sanity import GIVE_RANGE, Seen, warn_of_long
from ar_adals_tf.index.shards import SHARD_SIZE, Shards
from ar_adals_tf.process.progress import move_from_here, progress_bar
from ar_adals_tf.version import versions

if TYPE_CHECKING:
    import keras

    from ar_adals_tf.attacks.runner import Runner

#: Share of images that an attack should flip, and of bounds that inputs should fill.
_ENOUGH, _FILLED = 0.9, 0.2

#: Attacks that know one length for all features, and ranges too different for that.
_ONE_STEP_FOR_ALL, _FAR_APART = ("cw", "cleverhans_cw_l2"), 10


def compute_distances(
    model: "keras.Model",
    source: Source,
    attack: str,
    settings: Mapping[str, Any],
    *,
    shards_dir: str | Path | None = None,
    shard_size: int = SHARD_SIZE,
    runner: "Runner | None" = None,
    verbose: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    """Attack all examples of a source; see `RobustnessIndex.compute`.

    Returns:
        Ids, distances, found, and the metadata.
    """
    from ar_adals_tf.attacks import prepare

    warn_of_scales(attack, settings)
    runner = runner or prepare(
        attack, model, few_of(source), keep_adversarial=False, **settings
    )
    metadata = describe(model, source, attack, settings)
    digest = metadata["model_digest"]
    seen = Seen(runner.predictions, len(source), runner.num_classes, digest)
    shards = None
    if shards_dir is not None:
        shards = Shards(shards_dir, metadata | {"shard_size": shard_size})
    started = time.perf_counter()
    parts: list[dict[str, np.ndarray]] = []
    title = f"{attack} on {source.dataset} {source.name}".rstrip()
    with progress_bar(len(source), title, show=verbose) as bar:
        for number, (shard_ids, inputs) in enumerate(source.shards(shard_size)):
            move = move_from_here(bar)
            seen.add(inputs, known_labels(source, shard_ids))
            part = shards.load(number, shard_ids) if shards else None
            if part is None:
                try:
                    result = runner(inputs, progress=move)
                except NotFiniteError:
                    if shards:
                        shards.forget()
                    raise
                part = {
                    "ids": shard_ids,
                    "distances": result.distances,
                    "found": result.found,
                    "within": result.found_within_steps,
                }
                if shards:
                    shards.save(number, part)
            move(len(shard_ids))
            parts.append(part)
    joined = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    _warn_of_misses(joined["found"], attack)
    warn_of_long(joined["distances"], runner.box.diagonal(runner.shape), attack)
    metadata |= seen.metadata()
    metadata["success_rate"] = float(joined["within"].mean())
    metadata["seconds"] = round(time.perf_counter() - started, 3)
    ids, distances, found = (joined[n] for n in ("ids", "distances", "found"))
    return ids, distances, found, metadata


def known_labels(source: Source, ids: np.ndarray) -> np.ndarray | None:
    """Return the labels of some examples of a source, in the order of `ids`.

    None if it has none, as splits that are read from disk.
    """
    if not getattr(source, "labelled", False):
        return None
    labels: np.ndarray = source.labels_of(ids)  # type: ignore[attr-defined]
    return labels


def few_of(source: Source) -> Any:
    """Return some inputs of a source, from which sizes are known.

    None for splits of images, whose models know their size.
    """
    few = getattr(source, "few", None)
    return None if few is None else few()


def as_source(
    model: "keras.Model",
    inputs: Any,
    labels: Any,
    ids: Any,
    dataset: str,
    split: str,
    settings: Mapping[str, Any],
) -> Source:
    """Return what a user gives to be attacked as a source; see `RobustnessIndex`.

    Raises:
        InputError: If it is none.
    """
    import keras
    import tensorflow as tf

    from ar_adals_tf.attacks.box import UNIT, Box
    from ar_adals_tf.examples.elements import Takes
    from ar_adals_tf.examples.read_twice import ReadTwice
    from ar_adals_tf.graph import check_is_model, input_specs
    from ar_adals_tf.outputs import num_classes

    check_is_model(model, "the model", "the order is compute(model, x, y)")
    if hasattr(inputs, "shards"):
        return cast(Source, inputs)
    bounds = settings.get("bounds", UNIT if settings.get("at") is None else None)
    own = settings.get("at") is None  # else bounds are those of a layer's output
    unit = own and not isinstance(bounds, str) and Box.unit(bounds)
    specs = input_specs(model)
    if isinstance(inputs, (tf.data.Dataset, keras.utils.PyDataset)):
        if labels is not None:
            raise InputError(
                "a dataset brings its labels itself; received y beside it; leave y "
                "out, or give arrays"
            )
        takes, classes = Takes.of(specs), num_classes(model)
        return ReadTwice(inputs, takes, classes, ids, dataset, split, unit)
    if isinstance(inputs, (str, Path)):
        raise InputError(
            f"inputs must be arrays or a dataset; received {_shown(inputs)}; read the "
            "file first, or use python -m ar_adals_tf.compute_robustness --arrays=FILE"
        )
    several = len(keras.tree.flatten(specs)) > 1
    _refuse_single(inputs, specs)
    return as_examples(inputs, labels, ids, dataset, split, unit, several)


def _refuse_single(inputs: Any, specs: Any) -> None:
    """Refuse one example in the place of a batch, by what the model takes."""
    shape, taken = getattr(inputs, "shape", None), getattr(specs, "shape", None)
    if shape is None or taken is None or len(shape) != len(taken) - 1:
        return
    if all(side in (None, own) for own, side in zip(shape, taken[1:], strict=True)):
        raise InputError(
            f"inputs must be a batch, (N, ...); received an array of shape "
            f"{tuple(shape)}, which is one example; give it a first axis: x[None]"
        )


def check_labels_are_classes(model: "keras.Model", source: Source) -> None:
    """Refuse labels that are no class of a model."""
    from ar_adals_tf.outputs import num_classes

    if not getattr(source, "labelled", False):  # as in splits read from disk
        return
    labels: np.ndarray = source.labels  # type: ignore[attr-defined]
    classes = num_classes(model)
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        raise InputError(
            f"labels must be the model's classes, 0 to {classes - 1}; {wrong.sum()} of "
            f"{len(labels)} are not, such as {labels[wrong][0]}; number the classes "
            "from 0, as in training"
        )


def resolved(source: Source, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an attack with bounds in the place of `"data"`.

    Raises:
        InputError: If bounds are another word, or no data have them.
    """
    from ar_adals_tf.attacks.box import DataBounds

    bounds = settings.get("bounds")
    if not isinstance(bounds, str):
        _warn_of_loose(source, settings)
        return dict(settings)
    if bounds != "data":
        raise InputError(
            "bounds must be (low, high), 'data' or None; received "
            f"{bounds!r}; 'data' is each feature's range"
        )
    if settings.get("at") is not None:
        raise InputError(
            "bounds='data' is the inputs' range, and at= moves the output of a layer; "
            "leave bounds out, or give (low, high)"
        )
    extent = _extent(source, settings)
    if extent is None:
        raise InputError(
            "bounds='data' is the range of one array of numbers, or of the one that "
            "attack_input= names in a dictionary of arrays; received neither; give "
            "one, or bounds=(low, high)"
        )
    if not all(np.isfinite(end).all() for end in extent):
        raise InputError(
            "inputs must be finite; the data have NaN or infinity; mend them or leave "
            "them out"
        )
    return {**settings, "bounds": DataBounds(*extent)}


def space_from(bounds: str | None, at: str | None) -> dict[str, Any]:
    """Return the settings that the flags `--bounds` and `--at` mean.

    Raises:
        InputError: If the bounds are neither two numbers nor a known word.

    Example:
        >>> space_from("0,255", None), space_from("none", "embedding")
        ({'bounds': (0.0, 255.0)}, {'at': 'embedding', 'bounds': None})
        >>> space_from("0,1", None)  # the default
        {}
    """
    space: dict[str, Any] = {} if at is None else {"at": at}
    if bounds is None:
        return space
    if bounds in ("none", "data"):
        return {**space, "bounds": None if bounds == "none" else bounds}
    try:
        low, high = map(float, bounds.split(","))
    except ValueError:
        raise InputError(
            "--bounds must be two numbers such as 0,255, or data, or none; received "
            f"{bounds!r}"
        ) from None
    unit = (low, high) == (0, 1) and at is None
    return {} if unit else {**space, "bounds": (low, high)}


def _extent(
    source: Source, settings: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return each feature's range in what moves, if the source knows it."""
    extent = getattr(source, "extent", None)
    return extent(settings.get("attack_input")) if extent else None


def _warn_of_loose(source: Source, settings: Mapping[str, Any]) -> None:
    """Warn of bounds far beyond the data; their width is the attacks' unit."""
    from ar_adals_tf.attacks.box import Box

    bounds = settings.get("bounds")
    if bounds is None or Box.unit(bounds) or settings.get("at") is not None:
        return
    extent = _extent(source, settings)
    width = float(np.max(bounds[1]) - np.min(bounds[0]))
    if extent is None or not width:
        return
    share = float(extent[1].max() - extent[0].min()) / width
    if share < _FILLED:
        warnings.warn(
            f"the inputs fill only {share:.1%} of the bounds, whose width is the unit "
            "of an attack's steps, so distances may be far too long; give narrower "
            "bounds, bounds='data', or None",
            stacklevel=4,
        )


def warn_of_scales(attack: str, settings: Mapping[str, Any]) -> None:
    """Warn where CW-L2 is given features of very different ranges.

    Adam moves every feature by about the same length. In a raw table that is far too
    much for one and far too little for another.
    """
    bounds = settings.get("bounds")
    if attack not in _ONE_STEP_FOR_ALL or bounds is None or isinstance(bounds, str):
        return
    widths = np.subtract(bounds[1], bounds[0])
    widths = widths[widths > 0]
    if widths.size and widths.max() > _FAR_APART * widths.min():
        warnings.warn(
            f"{attack} moves all features by steps of one length, and their ranges "
            f"differ by up to {widths.max() / widths.min():.3g} times, so distances "
            "are far too long; give attack='ddn', or standardise the features before",
            stacklevel=4,
        )


def _warn_of_misses(found: np.ndarray, attack: str) -> None:
    """Warn where so few images are flipped that their order says little."""
    if (share := found.mean()) < _ENOUGH:
        warnings.warn(
            f"{attack} flipped only {share:.1%} of the images; the others all rank as "
            "the most robust, in no order. Likely causes: the inputs are not in the "
            f"range that the model was trained with ({GIVE_RANGE}), the model is not "
            "trained, or its last layer hides its logits",
            stacklevel=4,
        )


def describe(
    model: "keras.Model", source: Source, attack: str, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what decides the distances: images, model, attack and versions."""
    from ar_adals_tf.attacks import attack_settings

    deciding = attack_settings(attack, **settings).deciding()
    return {
        "format": FORMAT,
        "dataset": source.dataset,
        "split": source.name,
        "num_examples": len(source),
        "digest": source.digest(),
        "model_digest": digest_model(model),
        "attack": attack,
        "settings": deciding,
        "unit": unit_of(deciding),
        "versions": versions(),
    }


def unit_of(settings: Mapping[str, Any]) -> str:
    """Say in what unit distances are, from the settings of their attack.

    Example:
        >>> unit_of({"top_k": None})
        'inputs in [0, 1]'
        >>> unit_of({"bounds": None, "at": "embedding"})
        "the output of layer 'embedding'"
    """
    if settings.get("at") is not None:
        return f"the output of layer {settings['at']!r}"
    name = settings.get("attack_input")
    what = "inputs" if name is None else f"input {name!r}"
    bounds = settings.get("bounds", (0, 1))
    if bounds is None:
        return f"{what}, unbounded"
    low, high = bounds
    if np.ndim(low) or np.ndim(high):
        return f"{what}, each feature in a range of its own"
    return f"{what} in [{low:g}, {high:g}]"


def _shown(value: Any) -> str:
    """Return what an error says of a value."""
    if isinstance(value, (str, Path)):
        return f"the text {str(value)!r}"
    shape = getattr(value, "shape", None)
    kind = type(value).__name__
    return f"{kind} of shape {tuple(shape)}" if shape is not None else kind
