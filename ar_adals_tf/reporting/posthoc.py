"""The table of post-hoc rivals: every method with each calibration that was fitted."""

from collections.abc import Mapping, Sequence
from typing import Any

from ar_adals_tf.evaluation.wanted import POSTHOC
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.group import Group, seed_words
from ar_adals_tf.reporting.items import Cell, Row, Table, measures
from ar_adals_tf.reporting.names import plain

_CAPTION = (
    "Fitted to the validation images. Vector: one scale and one bias for each class; "
    "it may change predictions. Margin: the temperature depends on the logit margin. "
    "By level: one temperature for each robustness level; levels of test images come "
    "from the model's own margin distances, so that no test image is attacked. "
)


def rivals_after_training(collection: Collection) -> Table:
    """Return clean measures and means under shift, of the groups that have rivals."""
    clean, shifted = measures("accuracy", "ece", "nll", "brier"), measures("ece", "nll")

    def cells(on_clean: Sequence[Any], under_shift: Sequence[Any]) -> list[Cell]:
        found = [measure.cell(on_clean) for measure in clean]
        return found + [measure.cell(under_shift) for measure in shifted]

    rows = []
    for group in collection.groups:
        measured = {name: own for name in POSTHOC if (own := _measured(group, name))}
        if not measured:
            continue
        rows.append(
            Row(group.label, cells(group.clean, group.shift_means()), kind=group.kind)
        )
        for name, own in measured.items():
            row = cells([one["clean"] for one in own], _shift_means(group, own))
            rows.append(Row(f"{group.label} + {plain(name)}", row, kind=group.kind))
    columns = [measure.column() for measure in clean]
    columns += [measure.column(measure.heading("under shift")) for measure in shifted]
    return Table(
        f"posthoc_{collection.dataset}",
        f"Calibration after training, {collection.title}",
        f"{_CAPTION}{collection.shift_words}{seed_words(collection.groups)}",
        columns,
        rows,
    )


def _measured(group: Group, name: str) -> list[Mapping[str, Any]]:
    """Return a calibration's measures for each run; none unless every run has them."""
    found = [run.metrics.get("posthoc", {}).get(name) for run in group.runs]
    return found if all(found) else []


def _shift_means(
    group: Group, found: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return a calibration's means under shift over the types of the group's own."""
    own = group.shift_means()
    there = [one.get("shift", {}).get("overall", {}) for one in found]
    means = [one.get("paper", one.get("all")) for one in there]
    same = own and all(
        mean and mean["types"] == mine["types"]
        for mean, mine in zip(means, own, strict=True)
    )
    return [mean for mean in means if mean] if same else []
