"""What a page says first, in plain words: how far a confidence can be trusted."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ar_adals_tf import captions, figures
from ar_adals_tf.calibration.bootstrap import ImageScores
from ar_adals_tf.datasets.own import is_own
from ar_adals_tf.evaluation.doubts import seen_validation, stayed_hard
from ar_adals_tf.figures.uncertain import NORMAL_QUANTILE
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.group import Group, each_with_temperature
from ar_adals_tf.reporting.items import Picture, Section, in_their_words, slug
from ar_adals_tf.reporting.words import interval_words, percent, points_words

#: What the sentence is called that `before_and_after` returns.
BEFORE_AND_AFTER = "Before and after"

#: As many trained models as a page judges in words.
MOST_TRAINED = 3

#: A temperature that is nearer to 1 changes no probability by half a percent.
_NEXT_TO_NOTHING = 0.01


class Gap(NamedTuple):
    """Confidence minus accuracy, in [-1, 1], with its 95 % interval."""

    estimate: float
    low: float
    high: float


def gap_of(confidence: np.ndarray, correct: np.ndarray) -> Gap:
    """Return how much more often a model claims to be right than it is.

    It is the mean of confidence - correct over the examples. The interval is normal.

    Args:
        confidence: `(N,)`, the probability of the predicted class.
        correct: `(N,)`, whether the prediction is right.

    Example:
        >>> gap = gap_of(np.full(400, 0.9), np.arange(400) % 2 == 0)
        >>> round(gap.estimate, 3), round(gap.low, 3), round(gap.high, 3)
        (0.4, 0.351, 0.449)
    """
    each = np.asarray(confidence, np.float64) - correct
    mean = float(each.mean())
    half = np.inf
    if len(each) > 1:
        half = NORMAL_QUANTILE * float(each.std(ddof=1)) / len(each) ** 0.5
    return Gap(mean, max(mean - half, -1.0), min(mean + half, 1.0))


def verdicts(collection: Collection) -> Section:
    """Return the first section of a page on a user's own models or data.

    A paragraph for each model says how calibrated it is, and what a temperature does. A
    reliability diagram stands beside it, one more with the temperature.
    """
    groups = judged(collection)
    pictures = [
        Picture(
            f"verdict_{collection.dataset}_{slug(group.key)}",
            group.label,
            "" if number else captions.RELIABILITY_DIAGRAM,
            figures.draw_reliability_diagram(
                group.reliability(), examples=collection.examples.capitalize()
            ),
        )
        for number, group in enumerate(each_with_temperature(groups))
    ]
    words = [
        (
            group.label,
            in_plain_words(group, collection.examples, None if i == 0 else groups[0]),
        )
        for i, group in enumerate(groups)
    ]
    if len(groups) == 1 and (summary := before_and_after(groups)):
        words.insert(0, (BEFORE_AND_AFTER, summary))
    whose = "its" if len(groups) == 1 else "their"
    title = f"{collection.title}: how far can {whose} confidence be trusted?"
    shown = [in_their_words(picture, collection.examples) for picture in pictures]
    return Section(title, shown, words, first=True)


def before_and_after(groups: Sequence[Group]) -> str:
    """Return in one paragraph what calibration was and is; empty if nothing changed it.

    Before is the vanilla model, or the model as it was given, and after is the last of
    the others that were trained here. Of a single model it is without and with its
    temperature.
    """
    trained = [group for group in groups if not group.runs[0].record]
    if len(groups) == 1 and (scaled := groups[0].with_temperature()):
        first, last = groups[0], scaled
    elif len(trained) > 1 and trained[0].runs[0].method == "vanilla":
        first, last = trained[0], trained[-1]
    else:
        return ""
    ends = [
        interval_words(group.clean_sample.intervals["ece"]) for group in (first, last)
    ]
    rights = [percent(group.clean[0]["accuracy"], 1) for group in (first, last)]
    moved = last.clean_sample.difference(first.clean_sample, "ece")
    if _same_predictions(first, last):
        judged = "their predictions are the same"
    elif moved.low <= 0 <= moved.high:
        judged = "this difference may be chance"
    else:
        word = "lower" if moved.estimate < 0 else "higher"
        low, high = sorted((abs(moved.low), abs(moved.high)))
        judged = f"{word} by {points_words((abs(moved.estimate), low, high))}"
    return (
        f"the calibration error (ECE) was {ends[0]} with {first.label} and is "
        f"{ends[1]} with {last.label}: {judged}. The accuracy was {rights[0]} and is "
        f"{rights[1]}."
    )


def _same_predictions(group: Group, other: Group) -> bool:
    return np.array_equal(group.probabilities[0], other.probabilities[0])


def in_plain_words(group: Group, examples: str, other: Group | None = None) -> str:
    """Return a paragraph on a model: its calibration, its temperature, a comparison.

    Args:
        group: The model.
        examples: What people call its test examples: images or examples.
        other: A model that it is compared with on the same examples. Defaults to none.
    """
    scores: ImageScores = group.scores[0]
    clean = group.clean[0]
    gap = gap_of(scores.confidence, scores.correct)
    sentences = [
        f"right on {percent(clean['accuracy'], 1)} of "
        f"{len(scores.confidence):,} test {examples}, and on average "
        f"{percent(clean['mean_confidence'], 1)} sure: {_leaning(gap)}.",
        _error(group),
    ]
    run = group.runs[0]
    if run.predictions.is_near_chance:
        given = run.record or run.config.get("finetune")
        why = (
            "look whether the inputs have the model's own range and the classes its "
            "own order"
            if given
            else "it has hardly learnt and may need more epochs"
        )
        sentences.insert(1, f"That is no more often than a guess: {why}.")
    sentences.append(_temperature(group, examples))
    if run.record or run.config.get("finetune"):
        doubt = seen_validation("The model", run.metrics, examples)
        sentences += [f"{doubt}."] if doubt else []
    if note := stayed_hard("It", run.p_by_epoch):
        sentences.append(f"{note}.")
    if other is not None:
        sentences.append(_compared(group, other))
    return " ".join(sentences)


def _leaning(gap: Gap) -> str:
    """Return on which side of its accuracy a model's confidence lies."""
    if gap.low <= 0 <= gap.high:
        return (
            "on average neither overconfident nor underconfident "
            f"(confidence minus accuracy {points_words(gap)})"
        )
    side = "over" if gap.estimate > 0 else "under"
    low, high = sorted((abs(gap.low), abs(gap.high)))
    return f"{side}confident by {points_words((abs(gap.estimate), low, high))}"


def _error(group: Group) -> str:
    """Return a sentence on the ECE, its interval, and what chance would show."""
    estimate, low, high = group.clean_sample.intervals["ece"]
    mean, quantile = group.clean_sample.floor
    if estimate <= quantile:
        judged = "so the ECE does not show that it is miscalibrated"
    elif low > 0:
        judged = "so it is miscalibrated beyond chance"
    else:
        judged = "so it is probably miscalibrated"
    return (
        f"Its calibration error (ECE, {group.num_bins} bins) is "
        f"{interval_words((estimate, low, high))}; chance alone shows "
        f"{percent(mean)} for a perfectly calibrated model, and up to "
        f"{percent(quantile)} in 95 of 100 test sets, {judged}."
    )


def _temperature(group: Group, examples: str) -> str:
    """Return a sentence on what dividing the logits by the temperature does."""
    scaled = group.with_temperature()
    if scaled is None:
        return "It has no temperature, because no validation predictions were given."
    run = group.runs[0]
    assert run.temperature is not None
    count = validation_examples(group)
    fitted = f"fitted to {count:,} validation {examples}" if count else "fitted"
    estimate, low, high = scaled.clean_sample.intervals["ece"]
    moved = scaled.clean_sample.difference(group.clean_sample, "ece")
    now = interval_words((estimate, low, high))
    if moved.high < 0:
        effect = f"lowers the ECE to {now}"
    elif moved.low > 0:
        effect = f"raises the ECE to {now}"
    else:
        effect = f"does not change the ECE significantly; it is then {now}"
    quantile = scaled.clean_sample.floor.quantile
    within = "no more than" if estimate <= quantile else "still more than"
    sure = f"makes it {'less' if run.temperature > 1 else 'more'} sure"
    if abs(run.temperature - 1) < _NEXT_TO_NOTHING:
        sure = "hardly changes how sure it is"
    return (
        f"A temperature of {run.temperature:.2f}, {fitted}, {sure} "
        f"and {effect}, {within} chance shows ({percent(quantile)})."
    )


def _compared(group: Group, other: Group) -> str:
    """Return a sentence on the paired difference of two models' ECE."""
    if _same_predictions(group, other):
        return f"Its predictions are those of {other.label}."
    found = group.clean_sample.difference(other.clean_sample, "ece")
    if found.low <= 0 <= found.high:
        points = points_words(found)
        return (
            "On the same examples its ECE is not significantly different from that of "
            f"{other.label} (difference {points})."
        )
    word = "lower" if found.estimate < 0 else "higher"
    low, high = sorted((abs(found.low), abs(found.high)))
    points = points_words((abs(found.estimate), low, high))
    than = f"than that of {other.label} by {points}"
    return f"On the same examples its ECE is {word} {than}."


def validation_examples(group: Group) -> int | None:
    """Return how many examples a temperature was fitted to, if its file says so."""
    try:
        content = json.loads((group.runs[0].folder / "temperature.json").read_text())
    except (OSError, ValueError):
        return None
    count = content.get("validation_examples")
    return count if isinstance(count, int) else None


def all_verdicts(collections: Sequence[Collection]) -> list[Section]:
    """Return the first section of each collection of a user's own models or data."""
    return [verdicts(collection) for collection in collections if judged(collection)]


def judged(collection: Collection) -> list[Group]:
    """Return the models that are judged in words, what was given before what is made.

    They are a user's own ones and, on a user's own data or from a user's own model, the
    first that were trained, or a model that is alone. Seeds that are averaged are no
    one model.
    """
    others = [group for group in collection.groups if group.runs[0].record]
    alone = len(collection.groups) == 1
    finetuned = any(run.config.get("finetune") for run in collection.trained)
    mine = alone or finetuned or is_own(collection.dataset)
    trained = [
        group
        for group in collection.groups
        if not group.runs[0].record and len(group.runs) == 1
    ]
    return [*(trained[:MOST_TRAINED] if mine else []), *others]
