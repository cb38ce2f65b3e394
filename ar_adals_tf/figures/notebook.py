"""A reliability diagram that shows itself in a notebook."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ar_adals_tf import calibration
from ar_adals_tf.calibration.temperature import tempered
from ar_adals_tf.errors import InputError
from ar_adals_tf.figures import style
from ar_adals_tf.figures.reliability import draw_reliability_diagram
from ar_adals_tf.files import writable_file
from ar_adals_tf.whole_numbers import whole_number


class Diagram:
    """A reliability diagram: its figure, its bins, and its measures.

    As the last line of a notebook's cell it shows itself, without `%matplotlib`.

    Attributes:
        figure: The Matplotlib figure.
        bins: The numbers behind it; see `calibration.reliability_bins`.
        measures: See `calibration.summary`.
    """

    def __init__(
        self,
        figure: Figure,
        bins: calibration.ReliabilityBins,
        measures: dict[str, Any],
    ) -> None:
        self.figure, self.bins, self.measures = figure, bins, measures

    def save(self, path: str | Path) -> None:
        """Write the figure as `.png`, `.pdf` or `.svg`.

        Raises:
            InputError: On another ending, or if the file cannot be written. Its folder
                is made if it is absent.
        """
        writable_file(path, "the diagram", [".png", ".pdf", ".svg"])
        style.save(self.figure, path)

    def _repr_png_(self) -> bytes:
        return style.png(self.figure)

    def __repr__(self) -> str:
        m = self.measures
        return (
            f"reliability diagram of {m['num_examples']:,} examples: accuracy "
            f"{100 * m['accuracy']:.1f} %, mean confidence "
            f"{100 * m['mean_confidence']:.1f} %, ECE {100 * m['ece']:.2f} % "
            f"({m['num_bins']} bins)"
        )


def reliability_diagram(
    model_or_labels: Any,
    x_or_probabilities: Any,
    y: Any = None,
    *,
    num_bins: int = calibration.DEFAULT_NUM_BINS,
    title: str = "",
    from_logits: bool | None = None,
) -> Diagram:
    """Return the reliability diagram of a model or of predictions.

    Call it as `reliability_diagram(labels, probabilities)` or as
    `reliability_diagram(model, x, y)`.

    Args:
        model_or_labels: `(N,)` or `(N, 1)` classes or `(N, Z)` one-hot; or a built
            Keras classifier.
        x_or_probabilities: `(N, Z)` probabilities, or of two classes `(N,)` or
            `(N, 1)`, the second one's; or, with a model, inputs as `model.predict`
            takes them, or a dataset as `with_temperature` takes it. Weights are not
            used.
        y: The labels, with a model; None with a dataset.
        num_bins: Number of equal-width bins. Defaults to 15.
        title: What the figure's title begins with. Defaults to nothing.
        from_logits: Whether the model, or what is given in place of probabilities,
            returns logits. Defaults to None: of a model it is found out, and
            predictions are probabilities.

    Raises:
        InputError: If labels and predictions do not fit, or if logits are given as
            probabilities, or probabilities as logits.

    Example:
        >>> reliability_diagram([0, 1], [[0.9, 0.1], [0.7, 0.3]])
        reliability diagram of 2 examples: accuracy 50.0 %, mean confidence 80.0 %, \
ECE 40.00 % (15 bins)
    """
    num_bins = whole_number("num_bins", num_bins)
    if hasattr(model_or_labels, "trainable_weights"):
        from ar_adals_tf.calibrated import labelled_logits

        labels, logits = labelled_logits(
            model_or_labels, x_or_probabilities, y, from_logits
        )
        p = tempered(logits, 1.0)
    else:
        if y is not None:
            raise InputError(
                "reliability_diagram takes labels and probabilities, or a model, x and "
                f"y; received three arguments, the first is no model but "
                f"{type(model_or_labels).__name__}"
            )
        labels, p = model_or_labels, x_or_probabilities
        if from_logits:
            p = tempered(calibration.logits_from(p, "logits"), 1.0)
    bins = calibration.reliability_bins(labels, p, num_bins)
    measures = calibration.summary(labels, p, num_bins)
    figure = draw_reliability_diagram(bins, title, examples="Examples")
    return Diagram(figure, bins, measures)
