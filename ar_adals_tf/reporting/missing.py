"""What a report misses, and the commands that make it."""

from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.commands import evaluate_command, seed_command, train_command
from ar_adals_tf.reporting.group import Group
from ar_adals_tf.reporting.items import Missing, in_words
from ar_adals_tf.reporting.names import SINGLE_METHODS, method_label


def missing_rows(collection: Collection, *keys: str) -> Missing:
    """Return what is missing where methods have no run."""
    names = [method_label(key) for key in keys]
    return Missing(
        f"{collection.title}: no run of {in_words(names)}",
        tuple(
            train_command(collection.dataset, key, collection.runs[0]) for key in keys
        ),
    )


def missing_groups(
    collection: Collection, groups: dict[str, Group | None]
) -> tuple[Missing, ...]:
    """Return what is missing where some of the methods have no runs."""
    keys = [key for key, group in groups.items() if group is None]
    return (missing_rows(collection, *keys),) if keys else ()


def missing_levels(collection: Collection) -> tuple[Missing, ...]:
    """Return what is missing where there is no robustness index."""
    if collection.index is not None:
        return ()
    what = (
        f"{collection.title}: no robustness index of the test images lies beside the "
        "runs; a run of AR-AdaLS makes it"
    )
    command = train_command(collection.dataset, "ar_adals", collection.runs[0])
    return (Missing(what, (command,)),)


def missing_shift(collection: Collection) -> tuple[Missing, ...]:
    """Return what is missing where runs lack measures under shift."""
    lacking = [
        run
        for run in collection.runs
        if "shift" not in run.metrics
        or (run.temperature and "temperature_scaled" not in run.metrics["shift"])
    ]
    if not lacking:
        return ()
    commands = tuple(evaluate_command(run, "--shift") for run in lacking)
    what = (
        f"{collection.title}: {len(lacking)} of {len(collection.runs)} runs are not "
        "wholly measured under shift"
    )
    return (Missing(what, commands),)


def missing_seeds(collection: Collection) -> tuple[Missing, ...]:
    """Return what is missing where a method has a single seed."""
    alone = [
        group
        for key in SINGLE_METHODS
        if (group := collection.group(key)) and len(group.runs) == 1
    ]
    if not alone:
        return ()
    names = in_words([group.label for group in alone])
    what = (
        f"{collection.title}: the variance needs two or more seeds (the paper has "
        f"five); there is one of {names}"
    )
    return (Missing(what, tuple(next_seed_command(group) for group in alone)),)


def missing_attacks(collection: Collection) -> tuple[Missing, ...]:
    """Return what is missing where runs lack an attack or a strength of the others."""
    commands = []
    for run in collection.runs:
        there = run.attack_measures()
        lacking = [
            (attack, epsilon)
            for attack in collection.attacks
            for epsilon in collection.strengths
            if epsilon and f"{epsilon:g}" not in there.get(attack, {})
        ]
        if not there:
            commands.append(evaluate_command(run, "--attacks=fgsm,pgd"))
        elif lacking:
            names = dict.fromkeys(attack for attack, _ in lacking)
            strengths = sorted({epsilon for _, epsilon in lacking})
            commands.append(
                evaluate_command(
                    run,
                    f"--attacks={','.join(names)}",
                    f"--epsilons={','.join(f'{epsilon:g}' for epsilon in strengths)}",
                )
            )
    if not commands:
        return ()
    what = (
        f"{collection.title}: {len(commands)} of {len(collection.runs)} runs are not "
        "wholly measured under attack"
    )
    return (Missing(what, tuple(commands)),)


def missing_footprint(collection: Collection) -> tuple[Missing, ...]:
    """Return what is missing where runs lack the costs of their model."""
    lacking = [run for run in collection.runs if "footprint" not in run.metrics]
    if not lacking:
        return ()
    what = (
        f"{collection.title}: {len(lacking)} of {len(collection.runs)} runs have no "
        "footprint"
    )
    commands = tuple(evaluate_command(run, "--footprint") for run in lacking)
    return (Missing(what, commands),)


def next_seed_command(group: Group) -> str:
    """Return the command that trains a method with one more seed."""
    first = group.runs[0]
    return seed_command(first, 1 + first.config["seed"])
