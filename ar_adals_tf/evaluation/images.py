"""The images that an evaluation reads or makes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ar_adals_tf import datasets
from ar_adals_tf.datasets.corrupted import ShiftSource, find_source
from ar_adals_tf.datasets.shift_cache import cached
from ar_adals_tf.datasets.splits import Split
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.arrays import read_images
from ar_adals_tf.evaluation.posthoc import HeldOut, held_out_images
from ar_adals_tf.evaluation.shift import check_available
from ar_adals_tf.evaluation.stages import Evaluation
from ar_adals_tf.evaluation.subject import OWN_VALIDATION, Subject
from ar_adals_tf.evaluation.wanted import Wanted, types_of


def load_shared(subjects: Sequence[Subject], wanted: Wanted) -> dict[str, Split]:
    """Read the splits, which all subjects share.

    Raises:
        InputError: If two have other images.
    """
    first = subjects[0]
    for other in subjects[1:]:
        for name in ("dataset", "where", "reading", "limit"):
            mine, theirs = getattr(first, name), getattr(other, name)
            if mine != theirs:
                raise InputError(
                    f"{first.folder} and {other.folder} are of other images ({mine} "
                    f"and {theirs}), so they share no corrupted set; evaluate them "
                    "apart"
                )
    validated = wanted.posthoc or any(s.validation == OWN_VALIDATION for s in subjects)
    return datasets.load(
        first.dataset,
        **first.where,
        **first.reading,
        limit_examples=first.limit,
        splits=(
            *["train"] * wanted.footprint,
            *["validation"] * bool(validated),
            "test",
        ),
    )


def temperature_images(subject: Subject, splits: dict[str, Split]) -> Any:
    """Return what the temperature of a model's file is fitted to, if anything."""
    if subject.validation is None:
        return None
    if subject.validation == OWN_VALIDATION:
        if not len(splits["validation"]):
            raise InputError(
                f"{subject.dataset} has no validation images with these settings; give "
                "--validation_examples, or an .npz file as --validation"
            )
        return splits["validation"]
    test = splits["test"]
    return read_images(subject.validation, test.info, test.dataset)


def posthoc_images(
    subject: Subject, splits: dict[str, Split], validation: Split | None
) -> HeldOut:
    """Return what post-hoc calibrations are fitted to."""
    if subject.record is None:
        return held_out_images(str(subject.path), splits["validation"])
    if validation is None:
        raise InputError(
            f"{subject.folder} has an evaluation without --validation, so there is "
            "nothing to fit --posthoc to; evaluate the --model_file with it"
        )
    return HeldOut(validation, None)


def shift_to_make(
    task: Evaluation,
    shift_types: Sequence[str] | None,
    severities: Sequence[int],
    kind: str,
    cache_dir: str | Path | None,
    say: Callable[[str], Any],
) -> tuple[ShiftSource, list[str]]:
    """Return where corrupted images come from, and which types; refuse what lacks."""
    split = task.part
    types = list(shift_types or types_of(split.dataset, split.info))
    source = find_source(split, kind, types, severities, **task.subject.where)
    source = cached(source, split, cache_dir)
    if not shift_types:  # what is asked for by name is made or refused
        for name in [name for name in types if name in source.lacks]:
            say(f"{name} is left out: {source.lacks[name]}")
        types = [name for name in types if name not in source.lacks]
    check_available(types, source)
    if source.note:
        say(source.note)
    return source, types
