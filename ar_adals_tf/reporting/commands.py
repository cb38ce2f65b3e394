"""The commands that make or complete a run, and what is missing without them."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ar_adals_tf.attacks.table import BOUNDED_ATTACKS
from ar_adals_tf.corruptions.apply import SEVERITIES
from ar_adals_tf.datasets.generic import recipe_of
from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.evaluation.wanted import types_of
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.flags import as_text, flags_from, unusual
from ar_adals_tf.experiment.naming import folder_name
from ar_adals_tf.experiment.settings import DECLARATIONS
from ar_adals_tf.experiment.shell import shell_command
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.group import Group
from ar_adals_tf.reporting.items import Missing, in_words
from ar_adals_tf.reporting.names import (
    PAPERS_ENSEMBLE,
    SINGLE_METHODS,
    is_ensemble,
    method_label,
)
from ar_adals_tf.reporting.run import Run


def made_by(run: Run) -> str:
    """Return the command that makes a run, or an evaluation, from its settings."""
    if (record := run.record) is not None:
        if record.source == "python":
            return f"# {record.title}: ar_adals_tf.audit(...) in Python"
        return shell_command("evaluate", {**record.flags, "output_dir": run.place})
    settings = {name: v for name, v in run.config.items() if name != "output_dir"}
    flags = flags_from(settings) | {"output_dir": run.place}
    return shell_command("train", flags | imports(run))


def imports(run: Run) -> dict[str, str]:
    """Return the flag of the modules that a run's model needs, if it needs some."""
    recorded = run.record.flags.get("import") if run.record else None
    text = recorded or ",".join(run.config.get("imports") or ())
    return {"import": text} if text else {}


def seed_command(run: Run, seed: int) -> str:
    """Return the command that makes a run once more with another seed."""
    place = run.place.with_name(f"{run.place.name.removesuffix('-0')}-{seed}")
    return made_by(replace(run, elsewhere=place, config={**run.config, "seed": seed}))


def like_command(run: Run, **more: Any) -> str:
    """Return the command that makes a run once more with other settings."""
    suffix = "".join(f"-{name}-{value}" for name, value in more.items())
    place = run.place.with_name(f"{run.place.name}{suffix}")
    return made_by(replace(run, elsewhere=place, config=run.config | more))


def train_command(dataset: str, key: str, like: Run, **more: Any) -> str:
    """Return the command that makes a missing run.

    Args:
        dataset: The dataset.
        key: The method; see `Run.method`.
        like: A run whose other settings are kept, as far as a vanilla model has them.
        **more: Other settings, such as `num_levels=4`.
    """
    kind: dict[str, Any] = {"method": key.removesuffix("_ts")}
    if key.startswith("ensemble_of_"):
        kind = {"method": key.removeprefix("ensemble_of_")}
    elif key == "ar_adals_on_the_fly":
        epochs = recipe_of(dataset).refresh_epochs
        kind = {"method": "ar_adals", "refresh_epochs": epochs}
    if is_ensemble(key):
        kind["ensemble_size"] = PAPERS_ENSEMBLE
    flags: dict[str, Any] = {"dataset": like.config["dataset"]}
    flags |= {name: as_text(value) for name, value in kind.items()}
    for name, value in unusual(like.config | {"method": "vanilla"}).items():
        declared = DECLARATIONS[name]
        # The learning rate is left out: the companion study has one for each method.
        if declared.shared and declared.changes == "result" and name != "learning_rate":
            flags[name] = as_text(value)
    if like.config.get("finetune") and key == "vanilla":
        flags.pop("epochs", None)  # the model as it is
    if like.config.get("vanilla_dir") and "ar_adals" in key:
        flags["vanilla_dir"] = like.config["vanilla_dir"]
    flags |= more
    suffix = "".join(f"-{name}-{value}" for name, value in more.items())
    name = _name_of(like, kind)
    name = f"{name.removesuffix('-0')}{suffix}-0" if suffix else name
    flags |= {"output_dir": like.place.parent / name}
    return shell_command("train", flags | imports(like))


def _name_of(like: Run, kind: dict[str, Any]) -> str:
    """Return what `train` calls a run like another one, but of another kind."""
    kept = {name: like.config.get(name) for name in ("dataset", "model", "finetune")}
    epochs = 0 if kind["method"] == "vanilla" else like.config.get("epochs")
    others = {"seed": 0, "ensemble_size": 1, "epochs": epochs}
    settings: dict[str, Any] = dict.fromkeys(DECLARATIONS)
    return folder_name(Config(**settings | kept | others | kind))


def evaluate_command(run: Run, *flags: str) -> str:
    """Return the command that completes a run's measures."""
    found = shell_command("evaluate", {"run_dir": run.place} | imports(run))
    return " ".join([found, *map(shlex.quote, flags)])


def evaluate_commands(run: Run) -> list[str]:
    """Return the commands of all evaluations that a run has had."""
    if not run.can_measure_more:
        return []
    metrics = run.metrics
    flags = shift_flags(run) if "shift" in metrics else []
    if ood := ",".join(metrics.get("ood", ())):
        flags.append(f"--ood={ood}")
    # Clean images alone count as strength 0, which every attack has.
    attacks = {
        name: [float(e) for e in found if float(e)] or [0.0]
        for name, found in run.attack_measures().items()
    }
    cases = [(name, epsilon) for name, own in attacks.items() for epsilon in own]
    pairs = attack_flags(cases)
    flags += pairs[0] if pairs else ()
    if posthoc := ",".join(metrics.get("posthoc", ())):
        flags.append(f"--posthoc={posthoc}")
    if "footprint" in metrics:
        flags.append("--footprint")
    if run.certified:
        flags += certify_flags(metrics["certified"], list(run.certified))
    return [evaluate_command(run, *own) for own in (flags, *pairs[1:]) if own]


def certify_flags(found: dict[str, Any], sigmas: Sequence[str]) -> list[str]:
    """Return the flags of evaluate that certify as a run was, at some sigmas."""
    selection, samples = found["samples"]
    usual = {
        "certify_samples": (samples, 1000),
        "certify_selection_samples": (selection, 100),
        "certify_alpha": (found["alpha"], 0.001),
        "certify_images": (found["num_examples"], 500),
    }
    given = [f"--{n}={v}" for n, (v, default) in usual.items() if v != default]
    attack = any("attack" in own for own in found["by_sigma"].values())
    return [
        *("--certify", f"--sigma={','.join(sigmas)}"),
        *given,
        *["--certify_attack"] * attack,
    ]


def missing(what: str, commands: Sequence[str]) -> list[Missing]:
    """Return one thing that is missing, or nothing where no command is needed."""
    return [Missing(what, tuple(commands))] if commands else []


def is_wanted(collection: Collection, lacking: Sequence[Run]) -> bool:
    """Tell whether a page asks for what some runs lack.

    Where the paper is followed it always does, else only for what other runs have.
    """
    return collection.follows_the_paper or len(lacking) < len(collection.runs)


def missing_run(collection: Collection, key: str) -> Missing:
    """Return what is missing where a method of the paper has no run."""
    command = train_command(collection.dataset, key, collection.trained[0])
    name = method_label(key)
    return Missing(f"{collection.title}: no run of {name}", (command,), name)


def missing_groups(
    collection: Collection, groups: Mapping[str, Group | None]
) -> list[Missing]:
    """Return what is missing where some of the methods have no runs."""
    if not collection.follows_the_paper:
        return []
    return [missing_run(collection, key) for key, own in groups.items() if own is None]


def missing_levels(collection: Collection) -> list[Missing]:
    """Return what is missing where there is no robustness index."""
    if collection.index is not None or not collection.follows_the_paper:
        return []
    what = (
        f"{collection.title}: no robustness index of the test images lies beside the "
        "runs; a run of AR-AdaLS makes it"
    )
    command = train_command(collection.dataset, "ar_adals", collection.trained[0])
    return missing(what, [command])


def missing_evaluation(
    collection: Collection, lacking: Sequence[Run], words: str, *flags: str
) -> list[Missing]:
    """Return what is missing where runs lack what flags of evaluate measure."""
    if not is_wanted(collection, lacking):
        return []
    lacking = [run for run in lacking if run.can_measure_more]
    total = len(collection.runs)
    what = f"{collection.title}: {len(lacking)} of {total} runs {words}"
    return missing(what, [evaluate_command(run, *flags) for run in lacking])


def missing_shift(collection: Collection) -> list[Missing]:
    """Return what is missing where runs lack measures or predictions under shift."""
    lacking = [
        run
        for run in collection.runs
        if "shift" not in run.metrics
        or (run.temperature and "temperature_scaled" not in run.metrics["shift"])
        or run.lost["shift"]
    ]
    words = "are not wholly measured under shift" + _lost_words(lacking, "shift")
    as_others = (shift_flags(r) for r in collection.runs if "shift" in r.metrics)
    flags = next(as_others, ["--shift"])
    return missing_evaluation(collection, lacking, words, *flags)


def shift_flags(run: Run) -> list[str]:
    """Return the flags of evaluate that measure under shift as a run was."""
    found, dataset = run.metrics["shift"], run.dataset
    types = tuple(found["types"])
    usual = types_of(dataset) if dataset in DATASETS else ()
    flags = ["--shift"]
    if set(types) != set(usual):
        flags.append(f"--shift_types={','.join(types)}")
    if tuple(found["severities"]) != SEVERITIES:
        flags.append(f"--severities={','.join(map(str, found['severities']))}")
    if source := found.get("source"):
        flags.append(f"--shift_source={source}")
    return flags


def _lost_words(runs: Sequence[Run], folder: str) -> str:
    """Say how many of some runs have lost predictions, if any."""
    number = sum(bool(run.lost[folder]) for run in runs)
    return f"; {number} of these lost predictions in {folder}/" if number else ""


def missing_seeds(collection: Collection) -> list[Missing]:
    """Return what is missing where a method has a single seed."""
    groups = [group for key in SINGLE_METHODS if (group := collection.group(key))]
    alone = [group for group in groups if len(group.runs) == 1]
    if not alone or not collection.follows_the_paper:
        return []
    what = (
        f"{collection.title}: the variance needs two or more seeds (the paper has "
        f"five); there is one of {in_words([group.label for group in alone])}"
    )
    return missing(what, [next_seed_command(group) for group in alone])


def missing_attacks(collection: Collection) -> list[Missing]:
    """Return what is missing where runs lack an attack or a strength of the others."""
    if not collection.runs_under_attack and not collection.follows_the_paper:
        return []
    commands, runs = [], 0
    for run in (run for run in collection.runs if run.can_measure_more):
        there, lost = run.attack_measures(), run.lost["attacked"]
        lacking = [
            (attack, epsilon)
            for attack, epsilon in collection.attack_cases
            if f"{epsilon:g}" not in there.get(attack, {})
            or f"{attack}_{epsilon:g}" in lost
        ]
        runs += bool(lacking or not there)
        if not there:
            commands.append(evaluate_command(run, "--attacks=fgsm,pgd"))
        elif lacking:
            commands += [evaluate_command(run, *own) for own in attack_flags(lacking)]
    what = (
        f"{collection.title}: {runs} of {len(collection.runs)} runs are not "
        f"wholly measured under attack{_lost_words(collection.runs, 'attacked')}"
    )
    return missing(what, commands)


def attack_flags(cases: Sequence[tuple[str, float]]) -> list[tuple[str, str]]:
    """Return the flags that measure attacks at strengths, a pair for each command.

    FGSM and PGD cost little, so one command measures them at all strengths. Of the
    others those share a command that share their strengths.
    """
    wanted: dict[Any, dict[str, list[float]]] = {}
    for attack in dict.fromkeys(attack for attack, _ in cases):
        own = sorted({epsilon for name, epsilon in cases if name == attack})
        key = tuple(own) if BOUNDED_ATTACKS[attack].parts else "plain"
        wanted.setdefault(key, {})[attack] = own
    flags = []
    for some in wanted.values():
        strengths = sorted({epsilon for own in some.values() for epsilon in own})
        values = ",".join(f"{epsilon:g}" for epsilon in strengths)
        flags.append((f"--attacks={','.join(some)}", f"--epsilons={values}"))
    return flags


def next_seed_command(group: Group) -> str:
    """Return the command that trains a method with one more seed."""
    first = group.runs[0]
    return seed_command(first, 1 + first.config["seed"])
