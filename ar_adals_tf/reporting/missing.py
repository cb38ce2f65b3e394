"""What a report lacks, and the commands that make it."""

from ar_adals_tf.reporting import collection
from ar_adals_tf.reporting.collection import Collection, Group
from ar_adals_tf.reporting.commands import evaluate_command, seed_command, train_command
from ar_adals_tf.reporting.items import Missing, in_words


def ood_names(of: Collection) -> list[str]:
    """Return the foreign datasets that some run was measured on."""
    return list(dict.fromkeys(n for run in of.runs for n in run.metrics.get("ood", {})))


def missing_rows(of: Collection, *keys: str) -> Missing:
    """Return what is missing where methods have no run."""
    names = [collection.method_label(key) for key in keys]
    return Missing(
        f"{of.title}: no run of {in_words(names)}",
        tuple(train_command(of.dataset, key, of.runs[0]) for key in keys),
    )


def missing_groups(
    of: Collection, groups: dict[str, Group | None]
) -> tuple[Missing, ...]:
    """Return the gap of those methods that have no runs, if there are any."""
    keys = [key for key, group in groups.items() if group is None]
    return (missing_rows(of, *keys),) if keys else ()


def severities_of(of: Collection) -> list[int]:
    """Return the severities that the runs were measured at."""
    for run in of.runs:
        if "shift" in run.metrics:
            return list(run.metrics["shift"]["severities"])
    return [1, 2, 3, 4, 5]


def shift_words(of: Collection) -> str:
    """Say which corruptions stand behind a figure."""
    words = {
        "generated": "made by this package",
        "tfds": "from TensorFlow Datasets",
        "published": "as published",
    }
    for run in of.runs:
        if "shift" in run.metrics:
            found = run.metrics["shift"]
            overall = found.get("overall", {})
            types = (overall.get("paper") or {"types": found["types"]})["types"]
            number = found.get("num_examples", len(run.predictions.labels))
            return (
                f"Shift: {len(types)} types of corruption ({', '.join(types)}) at "
                f"severities {in_words(found['severities'])}, {number:,} images each, "
                f"{words.get(found.get('source', ''), 'of unknown source')}. "
            )
    return ""


def missing_shift(of: Collection) -> tuple[Missing, ...]:
    """Return what is missing where runs lack measures under shift."""
    lacking = [
        run
        for run in of.runs
        if "shift" not in run.metrics
        or (run.temperature and "temperature_scaled" not in run.metrics["shift"])
    ]
    if not lacking:
        return ()
    commands = tuple(evaluate_command(run, "--shift") for run in lacking)
    what = f"{len(lacking)} of {len(of.runs)} runs are not wholly measured under shift"
    return (Missing(f"{of.title}: {what}", commands),)


def missing_seeds(of: Collection) -> tuple[Missing, ...]:
    """Return what is missing where a method has a single seed."""
    alone = [
        g
        for key in ("vanilla", "ls", "adals", "ar_adals")
        if (g := of.group(key)) and len(g.runs) == 1
    ]
    if not alone:
        return ()
    commands = tuple(
        seed_command(g.runs[0], 1 + g.runs[0].config["seed"]) for g in alone
    )
    names = in_words([group.label for group in alone])
    what = f"the variance needs two or more seeds (the paper has five); one of {names}"
    return (Missing(f"{of.title}: {what}", commands),)
