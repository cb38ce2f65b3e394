"""Runs that travel: bit-equal reports, no places, and strangers' files refused."""

import hashlib
import io
import json
import os
import shutil
import stat
import zipfile

import numpy as np
import pytest

from ar_adals_tf.calibration import summary
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.reporting.collection import load_collections
from ar_adals_tf.reporting.packed import VERSION, pack, unpacked
from ar_adals_tf.reporting.page import write_report
from tests.helpers import add_index, make_run
from tests.reporting.attack_runs import attack_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with three runs that another machine could have made."""
    folder = tmp_path_factory.mktemp("there")
    vanilla = make_run(folder / "v-0", ood="svhn_cropped", data_dir=str(folder))
    add_index(vanilla)
    (vanilla / "robustness" / "cw" / "train.npz").write_bytes(b"not needed")
    (vanilla / "model.keras").write_bytes(b"a model")
    (vanilla / "history.csv").write_text("epoch,loss\n0,1.5\n")
    (vanilla / "shift" / "settings.json").write_text("{}")
    (vanilla / "shift" / "fog_2.npz").write_bytes(b"not measured")
    more = {"temperature": 1.5, "vanilla_dir": str(vanilla)}
    make_run(folder / "a-0", "ar_adals", **more)
    attack_run(folder / "a-1", "ar_adals", seed=1, extra={"vanilla_dir": str(vanilla)})
    return folder


@pytest.fixture(scope="module")
def runs(folder):
    return [folder / name for name in ("v-0", "a-0", "a-1")]


@pytest.fixture
def packed(runs, tmp_path):
    return pack(runs, tmp_path / "all.zip", folder="runs/mine-study")


def members(file):
    """Return the bytes of each file in a zip file."""
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(path, content, **infos):
    """Write a zip file; `infos` changes how the zip file describes its members."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            info = zipfile.ZipInfo(name)
            for key, value in infos.items():
                setattr(info, key, value)
            archive.writestr(info, data)
    return path


def with_sums(content):
    """Return content whose manifest has the right checksums."""
    manifest = json.loads(content["manifest.json"])
    manifest["sha256"] = {
        name: hashlib.sha256(data).hexdigest()
        for name, data in content.items()
        if name != "manifest.json"
    }
    return content | {"manifest.json": json.dumps(manifest).encode()}


def refused(path, says):
    with pytest.raises(InputError, match=says) as error, unpacked([path]):
        raise AssertionError("it was unpacked")
    assert "\n" not in str(error.value)


def test_a_file_holds_what_a_report_reads_and_nothing_else(packed):
    names = set(members(packed))
    assert {
        "manifest.json",
        "v-0/config.json",
        "v-0/metrics.json",
        "v-0/history.csv",
        "v-0/predictions.npz",
        "v-0/robustness/cw/test.npz",
        "v-0/shift/fog_3.npz",
        "v-0/ood/svhn_cropped.npz",
        "a-0/temperature.json",
        "a-1/attacked/pgd_8.npz",
    } <= names
    for word in ("model", "train.npz", "settings", "fog_2", "figures"):
        assert not [name for name in names if word in name]


def test_equal_runs_make_equal_bytes(runs, packed, tmp_path):
    for run in runs:
        os.utime(run / "metrics.json", (1e9, 1e9))
    again = pack(runs[::-1], tmp_path / "again.zip", folder="runs/mine-study")
    assert again.read_bytes() == packed.read_bytes()


def test_no_file_names_a_place_of_the_machine(packed, tmp_path):
    for name, data in members(packed).items():
        if name.endswith(".npz"):
            with zipfile.ZipFile(io.BytesIO(data)) as arrays:
                data = b"".join(map(arrays.read, arrays.namelist()))
        for place in (tmp_path.parent, os.path.expanduser("~")):
            assert str(place).encode() not in data, name


def test_settings_name_the_folders_of_the_study(packed):
    config = json.loads(members(packed)["a-0/config.json"])
    assert config["output_dir"] == "runs/mine-study/a-0"
    assert config["vanilla_dir"] == "runs/mine-study/v-0"
    assert config["data_dir"] is None


@pytest.mark.slow
def test_a_report_of_a_file_is_that_of_the_runs(runs, packed, tmp_path, no_pictures):
    """Every number, bit for bit; in the text only the places differ."""
    there = write_report(runs, tmp_path / "there", command="made so").parent
    here = write_report([packed], tmp_path / "here", command="made so").parent
    names = {str(p.relative_to(there)) for p in there.rglob("*.*")}
    assert names == {str(p.relative_to(here)) for p in here.rglob("*.*")}
    for name in names - {"index.html", "report.md"}:
        assert (here / name).read_bytes() == (there / name).read_bytes(), name
    text = (there / "report.md").read_text()
    data_dir = f" --data_dir={runs[0].parent}"
    text = text.replace(data_dir, "").replace(str(runs[0].parent), "runs/mine-study")
    assert (here / "report.md").read_text() == text
    assert "/tmp" not in (here / "index.html").read_text()


def test_float16_would_change_printed_digits_of_the_clean_images():
    """Why clean predictions are packed as they are. Corrupted ones are float16."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 2000)
    changed = 0
    for scale in np.linspace(1, 6, 20):
        logits = (scale * rng.normal(size=(2000, 10))).astype(np.float32)
        logits[np.arange(2000), labels] += scale
        one = Predictions(np.arange(2000).astype("S"), labels, logits)
        half = one._replace(logits=logits.astype(np.float16).astype(np.float32))
        eces = [summary(labels, p.probabilities, 15)["ece"] for p in (one, half)]
        changed += len({f"{100 * ece:.2f}" for ece in eces}) - 1
    assert changed


def test_without_changed_images_a_file_is_small_and_has_their_measures(runs, tmp_path):
    path = pack(runs, tmp_path / "clean.zip", clean_only=True)
    assert not [n for n in members(path) if n.split("/")[1:2] == ["shift"]]
    with unpacked([path]) as found:
        (collection,) = load_collections(found.folders, places=found.places)
        group = collection.group("vanilla")
        assert group.has_shift and not group.has_shifted_predictions
        assert np.isfinite(group.shift_measure("ece")).all()


def test_files_and_folders_are_merged(runs, tmp_path):
    """A run that two files have is taken once, with all that they have of it."""
    one = pack(runs[:2], tmp_path / "one.zip", clean_only=True)
    two = pack(runs[:1], tmp_path / "two.zip")
    with unpacked([one, two, runs[2]]) as found:
        assert [folder.name for folder in found.folders] == ["a-0", "v-0", "a-1"]
        other, vanilla, given = found.folders
        assert (vanilla / "shift" / "fog_3.npz").exists()
        assert not (other / "shift").exists()
        assert given == runs[2]
        (collection,) = load_collections(found.folders, places=found.places)
        places = {str(run.place) for run in collection.runs}
        assert places == {"runs/v-0", "runs/a-0", str(runs[2])}
        assert collection.index is not None
    assert not vanilla.exists()


def test_a_conflict_is_refused_by_the_names_of_the_files(runs, tmp_path):
    one = pack(runs[:2], tmp_path / "one.zip")
    other = make_run(tmp_path / "v-0", ood="svhn_cropped", labels=np.arange(120) % 10)
    two = pack([other], tmp_path / "two.zip")
    with (
        pytest.raises(
            InputError, match=r"one.zip and .*two.zip both have the run v-0, and their"
        ),
        unpacked([one, two]),
    ):
        pass
    # The same run as a folder is known by its settings.
    copy = shutil.copytree(runs[0], tmp_path / "copy")
    with pytest.raises(InputError, match=r"one.zip/v-0 and .*copy are one run twice"):
        write_report([one, copy], tmp_path / "report")


def test_what_cannot_be_packed_is_refused(runs, tmp_path):
    with pytest.raises(InputError, match="--export must end in .zip"):
        pack(runs, tmp_path / "runs.tar")
    twin = make_run(tmp_path / "v-0", seed=5)
    with pytest.raises(InputError, match="two of the runs are called v-0"):
        pack([*runs, twin], tmp_path / "runs.zip")
    strange = make_run(tmp_path / "a b")
    with pytest.raises(InputError, match="a b.* cannot be exported: names must have"):
        pack([strange], tmp_path / "runs.zip")
    assert not (tmp_path / "runs.zip").exists()


def test_a_damaged_file_is_refused_in_one_sentence(packed, tmp_path):
    data = bytearray(packed.read_bytes())
    bad = tmp_path / "bad.zip"
    refused(bad, "there is no file .*bad.zip")
    for content in (b"", b"PK", data[: len(data) // 2], data[len(data) // 2 :]):
        bad.write_bytes(content)
        refused(bad, "bad.zip is no whole file of exported runs")
    for place in np.random.default_rng(0).integers(0, len(data), 30):
        changed = data.copy()
        changed[place] ^= 0x55
        bad.write_bytes(changed)
        try:  # a byte that means nothing, such as of a date, may differ
            with unpacked([bad]) as found:
                assert {f.name for f in found.folders} == {"v-0", "a-0", "a-1"}
                load_collections(found.folders)
        except InputError as error:
            assert "bad.zip" in str(error)


@pytest.mark.parametrize("version", [VERSION + 1, str(VERSION), bool(VERSION), None])
def test_another_version_is_named(version, packed, tmp_path):
    content = members(packed)
    manifest = json.loads(content["manifest.json"]) | {"version": version}
    content["manifest.json"] = json.dumps(manifest).encode()
    newer = written(tmp_path / "newer.zip", content)
    refused(newer, f"newer.zip is of version {version!r} of the format")


@pytest.mark.parametrize(
    "name",
    [
        "../evil.npz",
        "/tmp/evil.npz",
        "v-0/../../evil.json",
        "v-0/shift/../../../evil.npz",
        "v-0\\evil.json",
        "v-0/model.keras",
        "v-0/shift/fog.npz/x",
        "v-0/",
        ".hidden/config.json",
    ],
)
def test_no_other_name_is_unpacked(name, packed, tmp_path):
    content = with_sums(members(packed) | {name: b"evil"})
    evil = written(tmp_path / "evil.zip", content)
    refused(evil, "evil.zip is no whole file of exported runs .*which no run has")
    assert not list(tmp_path.parent.glob("**/evil.json"))


@pytest.mark.parametrize("where", ["..", "/tmp", "runs/../..", "", "runs/ x", "a//b"])
def test_no_other_folder_is_unpacked_to(where, packed, tmp_path):
    content = members(packed)
    manifest = json.loads(content["manifest.json"]) | {"folder": where}
    content["manifest.json"] = json.dumps(manifest).encode()
    refused(written(tmp_path / "evil.zip", content), "its folder is")


def test_links_are_refused(packed, tmp_path):
    mode = (stat.S_IFLNK | 0o777) << 16
    content = with_sums(members(packed) | {"v-0/smoothing.json": b"/etc/passwd"})
    evil = written(tmp_path / "e.zip", content, external_attr=mode, create_system=3)
    refused(evil, "is a link")


def test_what_the_manifest_has_not_is_refused(packed, tmp_path):
    content = members(packed)
    more = written(tmp_path / "e.zip", content | {"v-0/smoothing.json": b"{}"})
    refused(more, "v-0/smoothing.json is not as its manifest says")
    del content["v-0/history.csv"]
    refused(written(tmp_path / "e.zip", content), "v-0/history.csv is not as")
    del content["manifest.json"]
    refused(written(tmp_path / "e.zip", content), "it has no manifest.json")


def test_bombs_are_refused(packed, tmp_path):
    """In the zip file itself, and in the arrays, which are zip files as well."""
    zeros = b"0" * 2**25
    content = with_sums(members(packed) | {"v-0/smoothing.json": zeros})
    evil = written(tmp_path / "e.zip", content, compress_type=zipfile.ZIP_DEFLATED)
    refused(evil, "v-0/smoothing.json would grow beyond measure")
    inner = io.BytesIO()
    np.savez_compressed(inner, logits=np.zeros(2**25))
    content = with_sums(members(packed) | {"v-0/predictions.npz": inner.getvalue()})
    refused(written(tmp_path / "e.zip", content), "predictions.npz would grow beyond")


def test_no_pickle_is_loaded(packed, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    inner = io.BytesIO()
    np.savez(
        inner, ids=np.array([Evil()]), labels=np.array([Evil()]), allow_pickle=True
    )
    content = with_sums(members(packed) | {"v-0/predictions.npz": inner.getvalue()})
    evil = written(tmp_path / "evil.zip", content)
    with pytest.raises(InputError, match=r"evil.zip/v-0/predictions.npz"):
        write_report([evil], tmp_path / "report")
    assert not (tmp_path / "ran").exists()


def test_settings_of_ones_own_data_name_no_place(tmp_path):
    data = tmp_path / "mine.npz"
    rng = np.random.default_rng(0)
    np.savez(
        data,
        x_train=rng.random((60, 8, 8, 3), np.float32),
        y_train=np.arange(60) % 10,
        x_test=rng.random((60, 8, 8, 3), np.float32),
        y_test=np.arange(60) % 10,
    )
    config = Config.make(str(data), "vanilla")
    assert config.dataset == str(data)
    run = make_run(tmp_path / "v", types=None, extra={"dataset": str(data)})
    path = pack([run], tmp_path / "own.zip")
    assert str(tmp_path).encode() not in members(path)["v/config.json"]
    with unpacked([path]) as found:
        (collection,) = load_collections(found.folders)
        assert collection.dataset == "mine"
