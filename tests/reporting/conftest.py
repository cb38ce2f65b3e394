"""The made-up runs that several tests of the report share, and their reports."""

import csv

import pytest

from ar_adals_tf.reporting import contents, page
from ar_adals_tf.reporting.collection import load_collections
from tests.helpers import add_index, make_run, no_pictures
from tests.reporting.attack_runs import attack_run
from tests.reporting.galleries import add_gallery


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Three vanilla seeds, two of AR-AdaLS, one of label smoothing; index, gallery."""
    root = tmp_path_factory.mktemp("runs")
    folders = [make_run(root / f"v{s}", seed=s, ood="cifar100") for s in range(3)]
    folders += [make_run(root / f"a{s}", "ar_adals", seed=s) for s in range(2)]
    folders.append(make_run(root / "ls", "ls", temperature=1.5))
    add_index(folders[0])
    add_gallery(folders[0])
    return folders


@pytest.fixture(scope="session")
def report(runs, tmp_path_factory):
    """The folder of the report of these runs."""
    with no_pictures():
        return page.write_report(runs, tmp_path_factory.mktemp("report")).parent


@pytest.fixture(scope="session")
def attack_runs(tmp_path_factory):
    """Two vanilla seeds with a temperature, and AR-AdaLS, all under attack."""
    root = tmp_path_factory.mktemp("attack_runs")
    folders = [attack_run(root / f"v{s}", seed=s, temperature=1.5) for s in range(2)]
    folders.append(attack_run(root / "a0", "ar_adals"))
    add_index(folders[0])
    return folders


@pytest.fixture(scope="session")
def attack_collection(attack_runs):
    """These runs as the report reads them."""
    return load_collections(attack_runs)[0]


@pytest.fixture(scope="session")
def attack_report(attack_runs, tmp_path_factory):
    """The folder of the report of these runs, without the paper's sections."""
    with no_pictures(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents, "paper_sections", lambda collections: [])
        return page.write_report(
            attack_runs, tmp_path_factory.mktemp("attack_report")
        ).parent


@pytest.fixture(scope="session")
def read_csv():
    """A function that reads a table of a report, by its first column."""

    def read(folder, name):
        with (folder / "tables" / f"{name}.csv").open() as file:
            rows = list(csv.DictReader(file))
        return {row["Method"]: row for row in rows}

    return read
