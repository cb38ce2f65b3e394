"""One's own model on one's own data: measured, and written down as a page."""

import base64
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ar_adals_tf import figures
from ar_adals_tf.calibration.measures import DEFAULT_NUM_BINS
from ar_adals_tf.corruptions.apply import CORRUPTIONS, GREY
from ar_adals_tf.digests import digest_model
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.predictions import Predictions, checked_settings
from ar_adals_tf.evaluation.results import describe_measures, write_metrics
from ar_adals_tf.evaluation.subject_file import (
    EVALUATION_FILES,
    SUBJECT_FILE,
    Record,
    check_classes,
    plain_text,
)
from ar_adals_tf.evaluation.without_model import UNNAMED, write_evaluation
from ar_adals_tf.experiment.runs import RUN_FILES, index_path
from ar_adals_tf.files import (
    clear,
    refuse_strangers,
    remove,
    sweep,
    writable_folder,
)
from ar_adals_tf.process.locks import LOCK, only_writer
from ar_adals_tf.reporting.html import text
from ar_adals_tf.reporting.items import Section, slug
from ar_adals_tf.reporting.page import files_of, write_collections
from ar_adals_tf.whole_numbers import whole_number

if TYPE_CHECKING:
    import keras

#: Where the results of the models lie, in the folder of the page.
_MODELS = "models"

_LEVELS = "margin"  # what cuts the robustness levels


@dataclasses.dataclass(frozen=True)
class Audit:
    """What `audit` found. A notebook shows it; `print` gives it in words.

    Attributes:
        page: The page, `index.html`.
        measures: By model, what `metrics.json` holds; see `read_metrics`.
        folders: By model, where its results lie; `report --runs=` takes them.
        verdicts: The page's first section.
    """

    page: Path
    measures: Mapping[str, Mapping[str, Any]]
    folders: Mapping[str, Path]
    verdicts: Sequence[Section] = dataclasses.field(repr=False)

    def __str__(self) -> str:
        lines = [
            f"{name}: {words}"
            for section in self.verdicts
            for name, words in section.paragraphs
        ]
        return "\n".join([*lines, f"The page is {self.page}"])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts = []
        for section in self.verdicts:
            parts += [
                f"<p><b>{text(name)}</b>: {text(words)}</p>"
                for name, words in section.paragraphs
            ]
            for picture in section.items:
                figure = getattr(picture, "figure", None)
                if figure is not None:
                    data = base64.b64encode(figures.png(figure)).decode()
                    parts.append(
                        f'<figure style="display:inline-block;margin:.5em 1em 0 0">'
                        f"<figcaption>{text(picture.title)}</figcaption>"
                        f'<img alt="{text(picture.title)}" width="320" '
                        f'src="data:image/png;base64,{data}"></figure>'
                    )
        return "\n".join([*parts, f"<p>{text(f'The page is {self.page}')}</p>"])


def audit(
    model: "keras.Model | Mapping[str, keras.Model]",
    x: Any,
    y: Any = None,
    *,
    output_dir: str | Path,
    x_val: Any = None,
    y_val: Any = None,
    class_names: Sequence[Any] | None = None,
    shift: bool | Sequence[str] = False,
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    bounds: Sequence[float] | None = None,
    name: str = UNNAMED,
    num_bins: int = DEFAULT_NUM_BINS,
    num_levels: int = 10,
    from_logits: bool | None = None,
    batch_size: int = 256,
    verbose: bool = True,
) -> Audit:
    """Measure how far a classifier's confidence can be trusted, and write a page.

    The page begins with the answer in plain words: the calibration error, what chance
    alone would show, its interval, on which side the confidence lies, and what a
    temperature does about it. Tables and figures follow.

    Args:
        model: A built Keras classifier that returns probabilities or logits; or several
            by name, such as `{"before": vanilla, "after": model}`, which are compared
            on the same examples, each with the first one.
        x: Test inputs as `model.predict` takes them: an array, a list or dictionary of
            arrays, of any range; or a dataset as `with_temperature` takes it, in a
            fixed order. Its weights are not used: each example counts once, in the
            measures and for the temperature.
        y: `(N,)` or `(N, 1)` classes, or `(N, Z)` one-hot; None with a dataset.
        output_dir: Where the page goes, and the results of the models, in `models/`.
        x_val: Validation inputs, which the temperature is fitted to. The model must not
            have been trained on them. Defaults to None: there is no temperature.
        y_val: Their labels; None with a dataset.
        class_names: Z names for tables. Defaults to numbers.
        shift: Whether to measure on corrupted images too, or the types of corruption,
            such as `["fog", "contrast"]`. Needs one array of images `(N, H, W, C)`.
        severities: How strong these are, 1 to 5. Defaults to all.
        bounds: `(low, high)`, the range of the model's inputs. Images need it to be
            corrupted. Defaults to None: (0, 255) for 8-bit images and for values above
            1, (0, 1) for images in [0, 1], and no bounds for everything else.
        name: What the test data are called. Reports compare models on equal names.
        num_bins: Bins of the ECE. Defaults to 15.
        num_levels: Number R of robustness levels; fewer if there are fewer examples.
            They are cut by `margin` on the first model, where its input is one array of
            numbers with a gradient.
        from_logits: See `ar_adals_tf.outputs.is_softmax`.
        batch_size: How many examples are predicted at once.
        verbose: Whether to show progress, and to say what is left out.

    Raises:
        InputError: Before long work, if models, inputs and labels do not fit.

    Example:
        ```python
        found = ar_adals_tf.audit(model, x_test, y_test, output_dir="audit",
                                  x_val=x_val, y_val=y_val)
        print(found)
        ```
    """
    from ar_adals_tf.evaluation.own import OwnTest, predict_own

    num_bins = whole_number("num_bins", num_bins)
    num_levels = whole_number("num_levels", num_levels)
    models = _named(model)
    say: Callable[[str], Any] = print if verbose else str
    folder = writable_folder(output_dir, "output_dir")
    names = {title: _free(slug(title) or "model", i) for i, title in enumerate(models)}
    folders = {t: folder / _MODELS / own for t, own in names.items()}
    files_of(folder)  # refuses a page of something else
    for own in folders.values():
        refuse_strangers(own, EVALUATION_FILES, SUBJECT_FILE)
        checked_settings(own / "shift")
    name = plain_text(str(name))
    test = OwnTest.make(models, x, y, name, bounds, from_logits, batch_size)
    types = _types(shift, test.channels) if shift else []
    corruptions = test.corruptions(types, severities) if types else None
    classes = check_classes(class_names, test.num_classes)
    validation: dict[str, Predictions] = {}
    if x_val is not None:
        for title, one in models.items():
            validation[title] = predict_own(one, x_val, y_val, from_logits, batch_size)
            _same_width(validation[title], test)
    elif y_val is not None:
        raise InputError("y_val is there without x_val; give both, or neither")
    index, words = test.levels(verbose)
    if words:
        say(words)
    measures = {}
    for i, title in enumerate(models):
        record = Record(
            title,
            name,
            "python",
            digest_model(models[title])[:16],
            "images" if test.channels else "examples",
            classes=classes,
        )
        own = folders[title]
        own.mkdir(parents=True, exist_ok=True)
        with only_writer(own / LOCK, say):
            sweep(own, *RUN_FILES, "subject.json")
            for old in ("metrics.json", "temperature.json"):
                remove(own / old)
            record.save(own)  # first: an interrupted audit knows its folder again
            clear(own / "robustness" / _LEVELS, "test.npz", "gallery.npz")
            if index is not None and i == 0:
                path = _ready(index_path(own, _LEVELS, {}, "test"))
                index.save(path)
                test.keep_gallery(path, index, classes)
            found = write_evaluation(
                own,
                record,
                test.predictions[title],
                validation.get(title),
                num_bins,
                say=str,
                index=index,
                num_levels=num_levels,
            )
            if corruptions is not None:
                scaled = found.get("temperature_scaled", {})
                found["shift"] = test.shift(
                    title,
                    own / "shift",
                    types,
                    severities,
                    corruptions,
                    num_bins=num_bins,
                    temperature=scaled.get("temperature"),
                    identity=record.digest,
                    verbose=verbose,
                )
                write_metrics(own, found)
        measures[title] = found
        if verbose:
            say(f"{title}: {describe_measures(found['clean'])}")
    from ar_adals_tf.reporting.collection import load_collections
    from ar_adals_tf.reporting.verdict import all_verdicts

    collections = load_collections(list(folders.values()))
    whose = "is it" if len(models) == 1 else "are they"
    command = "ar_adals_tf.audit(...) in Python"
    runs = list(folders.values())
    page = write_collections(
        collections, runs, folder, f"How sure {whose} really?", command
    )
    return Audit(page, measures, folders, all_verdicts(collections))


def _named(model: Any) -> dict[str, Any]:
    """Return the models by title."""
    from ar_adals_tf.graph import check_is_model

    if isinstance(model, Mapping):
        if not model:
            raise InputError("there is no model to audit; give at least one")
        named = {plain_text(str(title)): one for title, one in model.items()}
    else:
        named = {plain_text(str(getattr(model, "name", "model"))): model}
    for title, one in named.items():
        hint = "for predictions see python -m ar_adals_tf.evaluate --predictions"
        check_is_model(one, title, hint)
    return named


def _free(name: str, position: int) -> str:
    """Return a folder's name that no other model has."""
    return f"{position}-{name}"


def _ready(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _same_width(validation: Predictions, test: Any) -> None:
    if validation.logits.shape[1] != test.num_classes:
        raise InputError(
            f"validation predictions are of {validation.logits.shape[1]} classes, the "
            f"others of {test.num_classes}"
        )


def _types(shift: bool | Sequence[str], channels: int | None) -> list[str]:
    """Return the types of corruption, for images of so many channels."""
    if channels is None:
        raise InputError(
            "shift corrupts images, an array (N, H, W, 1 or 3) of 8-bit values or of "
            "floats; received other inputs; leave shift out"
        )
    usual = CORRUPTIONS if channels > 1 else GREY
    return list(usual) if isinstance(shift, bool) else list(shift)
