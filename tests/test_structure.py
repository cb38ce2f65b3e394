"""Imports run one way, and what must stay light loads nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ar_adals_tf

PACKAGE = Path(ar_adals_tf.__file__).parent

#: From the bottom to the top: a module imports only from its own row and those above.
ROWS = (
    "bounds captions errors lazy version whole_numbers",
    "automatic autograph calibration corruptions digests files finite forms graph "
    "nested outputs process reading sentences smoothing",
    "examples",
    "models distribution calibrated",
    "datasets methods figures metrics",
    "attacks",
    "index certification",
    "robustness",
    "joining levels",
    "indexing pipeline",
    "experiment",
    "callbacks evaluation command_line",
    "fitting",
    "training reporting",
    "exporting auditing tour studies compression",
    "train evaluate compute_robustness sweep report export compress compare_indexes "
    "quickstart reproduce",
    "__init__ __main__",
)
RANK = {name: rank for rank, row in enumerate(ROWS) for name in row.split()}


def modules():
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in PACKAGE.rglob("*.py")
    }


def imported(path):
    """The modules of this package that a file imports, wherever in the file."""
    known = modules()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            "ar_adals_tf"
        ):
            base = node.module.removeprefix("ar_adals_tf").lstrip(".")
            for alias in node.names:
                whole = f"{base}.{alias.name}".lstrip(".")
                below = whole in known or f"{whole}.__init__" in known
                yield whole if below else base or "__init__"


def test_every_module_has_its_row():
    assert {name.split(".")[0] for name in modules()} == set(RANK)


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_run_downwards(name):
    own = name.split(".")[0]
    for other in imported(modules()[name]):
        folder = other.split(".")[0]
        assert folder == own or RANK[folder] < RANK[own] or same_row(own, folder), other


def same_row(one, other):
    """Single modules of the lowest rows may use each other; folders may not."""
    return RANK[one] == RANK[other] and RANK[one] <= 1


def test_there_is_no_circle():
    graph = {name: set(imported(path)) for name, path in modules().items()}
    graph = {
        n: {o if o in graph else f"{o}.__init__" for o in g} for n, g in graph.items()
    }
    done: set[str] = set()
    while len(done) < len(graph):
        free = {n for n, others in graph.items() if n not in done and others <= done}
        assert free, f"circle among {sorted(set(graph) - done)}"
        done |= free


def test_flags_are_read_in_one_place():
    named = {name for name, path in modules().items() if "FLAGS" in path.read_text()}
    assert named == {"command_line"}


def loaded(statement):
    """The top-level packages that a fresh process has loaded after a statement."""
    code = f"import sys; {statement}; print(' '.join(m for m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import ar_adals_tf", {"tensorflow", "keras", "matplotlib", "numpy"}),
        ("from ar_adals_tf import smoothing, calibration, errors", {"tensorflow"}),
        ("from ar_adals_tf.calibration import measures", {"tensorflow", "absl"}),
        ("from ar_adals_tf import robustness", {"tensorflow", "keras", "cleverhans"}),
        ("from ar_adals_tf import indexing", {"tensorflow", "keras"}),
        ("from ar_adals_tf.datasets import table", {"tensorflow"}),
        ("from ar_adals_tf import command_line", {"tensorflow", "matplotlib", "keras"}),
        ("from ar_adals_tf.__main__ import overview; overview()", {"absl", "numpy"}),
        (
            "from ar_adals_tf.evaluation import "
            "compressed, measures, predictions, results",
            {"tensorflow", "keras", "matplotlib"},
        ),
        (
            "from ar_adals_tf.attacks import table",
            {"tensorflow", "keras", "cleverhans"},
        ),
        ("from ar_adals_tf.datasets import table", {"tensorflow", "numpy"}),
        ("from ar_adals_tf.methods import table", {"tensorflow", "keras", "numpy"}),
        (
            "from ar_adals_tf.experiment.config import Config; "
            "Config.make('cifar10', 'ar_adals').vanilla()",
            {"tensorflow", "keras", "cleverhans", "matplotlib", "sklearn"},
        ),
        ("from ar_adals_tf.studies import state", {"tensorflow", "keras"}),
        ("from ar_adals_tf.reporting import page", {"tensorflow", "cleverhans"}),
    ],
)
def test_light_modules_load_nothing_heavy(statement, absent):
    assert not loaded(statement) & absent


@pytest.mark.parametrize("name", ["errors", "smoothing"])
def test_equations_know_no_files(name):
    assert not {"files", "reading"} & set(imported(PACKAGE / f"{name}.py"))


def test_measures_know_no_files():
    for path in (PACKAGE / "calibration").glob("*.py"):
        assert not {"files", "reading"} & set(imported(path)), path


@pytest.mark.parametrize(
    "name",
    [
        "smoothing",
        "robustness",
        "levels",
        "pipeline",
        "joining",
        "calibration.floor",
        "index.file",
    ],
)
def test_types_of_what_all_else_stands_on_are_checked_strictly(name, monkeypatch):
    """The flags of setup.cfg for these modules are those of `mypy --strict`."""
    from mypy.main import process_options

    monkeypatch.chdir(PACKAGE.parent)
    _, ours = process_options([])
    _, strict = process_options(
        ["--strict", "--config-file=", str(PACKAGE / "errors.py")]
    )
    wanted, found = (o.clone_for_module(f"ar_adals_tf.{name}") for o in (strict, ours))
    for flag, value in wanted.snapshot().items():
        if isinstance(value, bool):
            assert getattr(found, flag) == value, flag
