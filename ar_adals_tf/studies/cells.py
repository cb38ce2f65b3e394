"""From a study to its cells: the commands that make it, and what each needs first.

A cell is one command of this package with what it writes. What several cells need,
such as the vanilla run of a seed or a robustness index, is one cell. All methods at the
first seed come first, so that a report means something early.
"""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ar_adals_tf.corruptions.apply import CORRUPTIONS, SEVERITIES
from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.flagfiles import read_flagfile
from ar_adals_tf.experiment.flags import (
    attack_flags,
    config_flags,
    config_of_texts,
    flags_from,
)
from ar_adals_tf.experiment.runs import index_path
from ar_adals_tf.experiment.shell import shell_command
from ar_adals_tf.studies.study import Method, Study

SPLITS = ("train", "validation", "test")

#: Flags of `train` that are no settings of the run.
_NO_SETTINGS = ("flagfile", "members", "swept")

#: Corrupted images are kept for all runs of a study if they have at most so many bytes.
MOST_KEPT = 8 * 1024**3


@dataclass(frozen=True)
class Cell:
    """One command of a study.

    Attributes:
        name: What it is called in the plan, in files and by other cells.
        module: The command, such as `train`.
        flags: Its flags, as texts.
        output: What it writes: a run directory, an index, or the folder of a choice.
        needs: The names of the cells that come first.
        method: The name of the method that it is for.
        seed: The seed that it is for.
        settings: The settings of the run that is trained, attacked or measured, before
            anything is chosen.
        stage: 1 for a cell that needs no other, 2 for one that needs these, ...
        makes_sets: Whether it makes the corrupted images that it predicts. If the study
            keeps them, its first evaluation makes them for all.
    """

    name: str
    module: str
    flags: Mapping[str, str]
    output: Path
    needs: tuple[str, ...]
    method: str
    seed: int
    settings: Config = field(repr=False)
    stage: int
    makes_sets: bool = False

    @property
    def command(self) -> str:
        """The command line, as people give it."""
        return shell_command(self.module, self.flags)

    @property
    def arguments(self) -> list[str]:
        """The command line, as the system takes it."""
        flags = [f"--{name}={value}" for name, value in self.flags.items()]
        return [sys.executable, "-m", f"ar_adals_tf.{self.module}", *flags]

    @property
    def run(self) -> Path:
        """The run directory whose lock is held while the cell works."""
        return Path(self.flags["run_dir"]) if self.module == "evaluate" else self.output

    def config(self) -> Config | None:
        """Return the settings of the run to train; None while a choice is not made.

        Raises:
            InputError: If the file of the choice is damaged.
        """
        texts = _settings(self.flags)
        if file := self.flags.get("flagfile"):
            if not Path(file).exists():
                return None
            texts = read_flagfile(Path(file)) | texts
        return config_of_texts(texts)


def cells_of(
    study: Study,
    folder: str | Path,
    seeds: Sequence[int] | None = None,
    only: Sequence[str] | None = None,
) -> list[Cell]:
    """Return the cells of a study, each after those that it needs.

    Args:
        study: The study.
        folder: Where everything goes.
        seeds: Some of its seeds. Defaults to all. An ensemble needs all of them, and is
            left out if one is not there.
        only: Some of its methods. Defaults to all. What they need is made as well.

    Raises:
        InputError: On seeds or methods that the study has not.

    Example:
        >>> from ar_adals_tf.studies.study import load_study
        >>> cells = cells_of(load_study("smoke"), "runs/smoke", only=["vanilla"])
        >>> [cell.name for cell in cells][:3]
        ['train vanilla-0', 'index vanilla-0 margin test', 'evaluate vanilla-0']
    """
    methods = [study.method(name) for name in dict.fromkeys(only or study.methods)]
    if lost := [seed for seed in seeds or () if seed not in study.seeds]:
        raise InputError(
            f"the study {study.name} has no seed {lost[0]}; choose from "
            f"{', '.join(map(str, study.seeds))}"
        )
    return _Planner(study, Path(folder)).cells(
        methods, [seed for seed in study.seeds if seed in (seeds or study.seeds)]
    )


def stages(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Return cells stage by stage: those of one stage can run at once."""
    cells = list(cells)
    return [
        [cell for cell in cells if cell.stage == stage]
        for stage in sorted({cell.stage for cell in cells})
    ]


def reported(cells: Iterable[Cell]) -> list[Cell]:
    """Return the cells that train what a study reports on, not what a choice needs."""
    cells = list(cells)
    choices = {cell.output for cell in cells if cell.module == "sweep"}
    trained = [cell for cell in cells if cell.module == "train"]
    return [cell for cell in trained if cell.output.parent not in choices]


def makes_sets(study: Study) -> bool:
    """Tell whether the runs of a study are measured on images that are corrupted here.

    Ready-made ones that lie on a disk count only if the study asks for them.
    """
    source = study.evaluate.get("shift_source", "auto")
    return study.evaluate.get("shift") == "true" and source in ("auto", "generated")


def keeps_sets(study: Study) -> bool:
    """Tell whether the corrupted images of a study are kept for all its runs.

    They are where they are in memory and have at most `MOST_KEPT` bytes.

    Example:
        >>> from ar_adals_tf.studies.study import load_study
        >>> [keeps_sets(load_study(name)) for name in ("svhn_cropped", "imagenet2012")]
        [True, False]
    """
    info, flags = DATASETS[study.dataset], study.evaluate
    sets = 1
    for name, every in (("shift_types", CORRUPTIONS), ("severities", SEVERITIES)):
        sets *= len(flags[name].split(",") if name in flags else every)
    size = sets * study.images["test"] * math.prod(info.image_shape)
    return makes_sets(study) and not info.streamed and size <= MOST_KEPT


class _Planner:
    """Collects cells, each once."""

    def __init__(self, study: Study, folder: Path) -> None:
        self._study, self._folder = study, folder
        self._cells: dict[str, Cell] = {}
        self._trained: dict[str, Cell] = {}  # by what decides the run

    def cells(self, methods: Sequence[Method], seeds: Sequence[int]) -> list[Cell]:
        """Return the cells of some methods at some seeds."""
        singles = [method for method in methods if not method.members]
        for seed in seeds:
            for method in singles:
                if seed in method.seeds:
                    self._evaluated(self._runs(method, seed))
        if set(seeds) == set(self._study.seeds):
            for method in methods:
                if method.members:
                    self._evaluated([self._ensemble(method)])
        return list(self._cells.values())

    def _evaluated(self, runs: Sequence[Cell]) -> None:
        """Add the cells that evaluate runs, one for each run."""
        reference = self._reference()
        keeps = keeps_sets(self._study)
        for run in runs:
            flags = {"run_dir": str(run.output), **self._study.evaluate}
            if keeps:
                flags["shift_cache_dir"] = str(self._folder / "shift_sets")
            first = all(cell.module != "evaluate" for cell in self._cells.values())
            makes = makes_sets(self._study) and (first or not keeps)
            needs = [run]
            if reference:
                flags["robustness_index"] = str(reference.output)
                needs.append(reference)
            name = f"evaluate {_short(run)}"
            if self._study.evaluate or reference:
                self._add(name, "evaluate", flags, run.output, needs, run, makes)

    def _runs(self, method: Method, seed: int) -> list[Cell]:
        """Add what trains a method at a seed: a run, or one for each value."""
        if not method.each:
            return [self._run(method, seed)]
        param = method.each.param
        return [
            self._run(method, seed, {param: value}, f"{method.name}-{value}-{seed}")
            for value in method.each.values
        ]

    def _run(
        self,
        method: Method,
        seed: int,
        more: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> Cell:
        """Add a run, unless one of the same settings is there under another name."""
        own = dict(more or {}) | {"seed": str(seed)}
        needs: list[Cell] = []
        config = method.config(**own)
        if vanilla := self._vanilla_of(config, seed):
            own["vanilla_dir"] = str(vanilla.output)
            needs += [vanilla, *self._indexes(config, vanilla, method)]
        flags = self._chosen(method, config, needs) | own
        return self._train(method, seed, flags, needs, name or f"{method.name}-{seed}")

    def _ensemble(self, method: Method) -> Cell:
        """Add an ensemble of the runs of another method."""
        of = self._study.method(str(method.members))
        members = [self._run(of, seed) for seed in self._study.seeds]
        seed, needs = self._study.seeds[0], list(members)
        if list(self._study.seeds) != list(range(seed, seed + len(members))):
            raise InputError(
                f"methods.{method.name}: the seeds of members count up from the first; "
                f"the study has {', '.join(map(str, self._study.seeds))}"
            )
        own = {"seed": str(seed), "ensemble_size": str(len(members))}
        config = method.config(**own)
        if vanilla := self._vanilla_of(config, seed):
            own["vanilla_dir"] = str(vanilla.output)
            needs.append(vanilla)
        own["members"] = ",".join(str(member.output) for member in members)
        flags = self._chosen(method, config, needs) | own
        return self._train(method, seed, flags, needs, f"{method.name}-{seed}")

    def _train(
        self,
        method: Method,
        seed: int,
        flags: dict[str, str],
        needs: Sequence[Cell],
        name: str,
    ) -> Cell:
        config = method.config(**_settings(flags))
        decides = json.dumps([config.as_dict(), flags.get("flagfile")], sort_keys=True)
        if decides not in self._trained:
            output = self._folder / f"{self._study.dataset}-{name}"
            self._trained[decides] = self._add(
                f"train {name}",
                "train",
                flags | {"output_dir": str(output)},
                output,
                needs,
                (method.name, seed, config),
            )
        return self._trained[decides]

    def _chosen(
        self, method: Method, config: Config, needs: list[Cell]
    ) -> dict[str, str]:
        """Return a method's flags, with what was chosen; add what chooses.

        Where a run is one of those that were compared, it is taken over from there.
        """
        if method.choice_of is None:
            return dict(method.flags)
        choice = self._choice(self._study.methods[method.choice_of])
        needs.append(choice)
        own = {} if method.name == method.choice_of else dict(method.own)
        if config == choice.settings:
            own["swept"] = str(choice.output)
        return {"flagfile": str(choice.output / "chosen.cfg"), **own}

    def _choice(self, method: Method) -> Cell:
        """Add what chooses a setting of a method at the first seed."""
        name, seed = f"choose {method.name}", self._study.seeds[0]
        if name in self._cells:
            return self._cells[name]
        assert method.choose is not None
        param, values = method.choose.param, method.choose.values
        folder = self._folder / f"choose-{method.name}"
        own, needs = {"seed": str(seed)}, []
        config = method.config(**own)
        if vanilla := self._vanilla_of(config, seed):
            own["vanilla_dir"] = str(vanilla.output)
            needs += [vanilla, *self._indexes(config, vanilla, method)]
        rest = {k: v for k, v in (method.flags | own).items() if k != param}
        about = (method.name, seed, config)
        runs = [
            self._add(
                f"train {method.name}-{param}={value}",
                "train",
                rest | {param: value, "output_dir": f"{folder}/{param}={value}"},
                folder / f"{param}={value}",
                needs,
                (method.name, seed, method.config(**own, **{param: value})),
            )
            for value in values
        ]
        flags = rest | {"param": param, "values": ",".join(values)}
        flags["output_dir"] = str(folder)
        return self._add(name, "sweep", flags, folder, [*needs, *runs], about)

    def _vanilla_of(self, config: Config, seed: int) -> Cell | None:
        """Add the vanilla run that a run looks at, if the study has it."""
        vanilla = self._study.methods.get("vanilla")
        if vanilla is None or not config.needs_vanilla:
            return None
        seed = seed if self._study.own_vanilla else self._study.seeds[0]
        if config.finetune:  # the given model, as it is; the run can measure it itself
            there = vanilla.config(seed=str(seed)).as_dict()
            if config.vanilla().differences(there):
                return None
        return self._vanilla(seed)

    def _vanilla(self, seed: int) -> Cell:
        return self._run(self._study.methods["vanilla"], seed)

    def _indexes(self, config: Config, vanilla: Cell, method: Method) -> list[Cell]:
        """Add the indexes that levels are cut from; a control has none."""
        if config.levels_from != "robustness":
            return []
        return [self._index(config, vanilla, method, split) for split in SPLITS]

    def _index(self, config: Config, vanilla: Cell, method: Method, split: str) -> Cell:
        attack, settings = str(config.attack), config.attack_settings
        path = index_path(vanilla.output, attack, settings, split)
        texts = flags_from(config.as_dict())
        about = {flag.name for flag in (*config_flags("data"), *attack_flags())}
        flags = {
            "model_file": str(vanilla.output / "model.keras"),
            **{name: text for name, text in texts.items() if name in about},
            "attack": attack,
            "split": split,
            "output_file": str(path),
        }
        name = f"index {_short(vanilla)} {path.parent.name} {split}"
        whose = (method.name, vanilla.seed, config)
        return self._add(name, "compute_robustness", flags, path, [vanilla], whose)

    def _reference(self) -> Cell | None:
        """Add the index that cuts the test images of all runs, if levels are used.

        It is that of the vanilla model of the first seed, by the first method's attack.
        """
        for method in self._study.methods.values():
            config = method.config()
            if config.levels_from == "robustness":
                vanilla = self._vanilla(self._study.seeds[0])
                return self._index(config, vanilla, method, "test")
        return None

    def _add(
        self,
        name: str,
        module: str,
        flags: Mapping[str, str],
        output: Path,
        needs: Sequence[Cell],
        about: Cell | tuple[str, int, Config],
        makes_sets: bool = False,
    ) -> Cell:
        if name not in self._cells:
            if isinstance(about, Cell):
                about = about.method, about.seed, about.settings
            first = tuple(dict.fromkeys(cell.name for cell in needs))
            stage = 1 + max((cell.stage for cell in needs), default=0)
            self._cells[name] = Cell(
                name, module, dict(flags), output, first, *about, stage, makes_sets
            )
        there = self._cells[name]
        if there.flags != flags:
            raise InputError(
                f"the study {self._study.name} has two runs of other settings called "
                f"{there.output.name}, one of methods.{there.method}; give the other "
                "method another name"
            )
        return there


def _short(run: Cell) -> str:
    """Return the name of a run without what its cell does."""
    return run.name.removeprefix("train ")


def _settings(flags: Mapping[str, str]) -> dict[str, str]:
    """Return the flags of `train` that are settings, before anything is chosen."""
    return {k: v for k, v in flags.items() if k not in _NO_SETTINGS}
