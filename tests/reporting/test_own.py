"""A page on models that were not trained here, alone and beside runs."""

import csv

import numpy as np
import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.subject_file import Record
from ar_adals_tf.evaluation.without_model import write_evaluation
from ar_adals_tf.reporting import answer, commands, contents, page, verdict
from ar_adals_tf.reporting.collection import load_collections
from ar_adals_tf.reporting.run import Run
from tests.helpers import N, make_run, no_pictures, noisy, softmax

LABELS = np.arange(N) * 7 % 10


def evaluated(folder, title="my.keras", dataset="Own data", sharpness=6.0, **more):
    """An evaluation's folder, of predictions that no model made."""
    folder.mkdir(parents=True)
    test = noisy(LABELS, 3, 2, sharpness)
    more = {"validation": None, "source": "predictions"} | more
    validation = more.pop("validation")
    record = Record(title, dataset, digest=str(folder), **more)
    write_evaluation(folder, record, test, validation, say=str)
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page on two models with hostile titles and names."""
    root = tmp_path_factory.mktemp("own")
    names = [f"<i>{z}</i>" for z in range(10)]
    validation = noisy(LABELS, 4, 2, 6.0)
    folders = [
        evaluated(root / "a", "vanilla", validation=validation, classes=names),
        evaluated(root / "b", "ls_by_random+trades", sharpness=0.3, classes=names),
    ]
    with no_pictures():
        return folders, page.write_report(folders, root / "page").parent


def test_the_answer_stands_above_the_contents(report):
    _, folder = report
    text = (folder / "index.html").read_text()
    assert text.index("has the lowest calibration error") < text.index("<nav")
    assert text.index("how far can their confidence be trusted?") < text.index("<nav")
    assert "<b>vanilla</b>: right on" in text and "<i>" not in text
    assert "&lt;i&gt;3&lt;/i&gt;" in text
    assert "The paper" not in text and "no run of" not in text
    assert "**vanilla**: right on" in (folder / "report.md").read_text()


def test_words_follow_the_measures(report):
    """Oracles: the mean of confidence less correct, and its normal interval."""
    folders, _ = report
    (collection,) = load_collections(folders)
    (section,) = contents.all_verdicts([collection])
    for sharpness, side, (_, words) in zip(
        (6.0, 0.3), ("over", "under"), section.paragraphs, strict=True
    ):
        p = softmax(noisy(LABELS, 3, 2, sharpness).logits.astype(np.float64))
        each = p.max(axis=1) - (p.argmax(axis=1) == LABELS)
        half = 1.96 * each.std(ddof=1) / N**0.5
        low, high = sorted(abs(each.mean() + np.array([-half, half])))
        assert f"{side}confident by {100 * abs(each.mean()):.2f} percentage" in words
        assert f"points [{100 * low:.2f}, {100 * high:.2f}]" in words
    first, second = (words for _, words in section.paragraphs)
    assert "miscalibrated beyond chance" in first
    assert "fitted to 120 validation images, makes it less sure and lowers" in first
    assert "no temperature" in second
    assert "its ECE is not significantly different from that of vanilla" in second


def test_the_table_by_class_has_its_names(report):
    folders, folder = report
    p = softmax(noisy(LABELS, 3, 2, 6.0).logits.astype(np.float64))
    with (folder / "tables" / "classes_own_data_model__vanilla.csv").open() as file:
        rows = {row["Predicted class"]: row for row in csv.DictReader(file)}
    assert set(rows) == {f"<i>{z}</i>" for z in range(10)}
    for z in range(10):
        here = p.argmax(axis=1) == z
        row = rows[f"<i>{z}</i>"]
        assert float(row["Images put there"]) == here.sum()
        assert float(row["Right (%)"]) == pytest.approx(
            100 * (LABELS[here] == z).mean()
        )
        confidence = 100 * p.max(axis=1)[here].mean()
        assert float(row["Confidence (%)"]) == pytest.approx(confidence, abs=1e-3)
        # Wilson's ends are the shares that are 1.96 standard errors from the found one.
        right, n = (LABELS[here] == z).mean(), here.sum()
        for end, sign in (("low", 1), ("high", -1)):
            share = (confidence - float(row[f"Gap (points), {end}"])) / 100
            away = sign * (share - right) / np.sqrt(share * (1 - share) / n)
            assert away == pytest.approx(1.96, abs=1e-2)


def test_a_title_is_never_taken_for_a_method(report):
    folders, _ = report
    (collection,) = load_collections(folders)
    assert collection.group("vanilla") is None
    labels = [group.label for group in collection.groups]
    assert labels == ["vanilla", "ls_by_random+trades"]
    assert not any(group.on_recipe for group in collection.groups)


def test_beside_runs_it_has_its_row_and_nothing_is_missed_of_it(tmp_path):
    run = make_run(tmp_path / "v", types=None)
    ids = Predictions.load(run / "predictions.npz").ids
    assert (ids == noisy(LABELS, 3, 0, 1.0).ids).all()
    mine = evaluated(tmp_path / "mine", "Vanilla", dataset="cifar10")
    (collection,) = load_collections([run, mine])
    labels = [group.label for group in collection.groups]
    assert labels[0] == "Vanilla" and labels[1] == f"Vanilla ({mine})"
    (missing,) = commands.missing_shift(collection)
    assert missing.what.startswith("CIFAR-10: 1 of 2") and len(missing.commands) == 1
    assert (
        commands.missing_levels(collection)[0]
        .commands[0]
        .startswith("python -m ar_adals_tf.train --dataset=cifar10")
    )
    titles = [section.title for section in contents.report_sections([collection])]
    assert titles[0] == "At a glance: CIFAR-10"
    assert "Table 2: clean and under shift" in titles  # one was trained here


def test_what_no_run_has_is_not_missed_where_no_paper_is_followed(tmp_path):
    """An evaluation of predictions alone cannot be measured under shift."""
    small = "fashion_mnist_small"
    run = make_run(tmp_path / "v", dataset=small, types=None)
    audited = evaluated(tmp_path / "mine", dataset=small)
    (collection,) = load_collections([run, audited])
    assert commands.missing_shift(collection) == []


def test_missing_shift_is_asked_for_as_the_others_have_it(tmp_path):
    folders = [make_run(tmp_path / "a", types=("fog",)), tmp_path / "b"]
    make_run(folders[1], "ls", types=None)
    (collection,) = load_collections(folders)
    (missing,) = commands.missing_shift(collection)
    assert missing.commands == (
        f"python -m ar_adals_tf.evaluate --run_dir={folders[1]} --shift "
        "--shift_types=fog --severities=1,3,5 --shift_source=generated",
    )


def test_the_command_that_made_it_is_told(tmp_path):
    flags = {"predictions": "a b.npz"}
    mine = Run.load(evaluated(tmp_path / "mine", flags=flags))
    assert commands.made_by(mine) == (
        "python -m ar_adals_tf.evaluate --predictions='a b.npz' "
        f"--output_dir={tmp_path / 'mine'}"
    )
    audited = Run.load(evaluated(tmp_path / "a", source="python"))
    assert commands.made_by(audited).startswith("# my.keras: ar_adals_tf.audit(")


def test_what_cannot_be_compared_is_refused(tmp_path):
    first = evaluated(tmp_path / "a")
    other = evaluated(tmp_path / "b")
    test = Predictions.load(other / "predictions.npz")
    test._replace(labels=(test.labels + 1) % 10).save(other / "predictions.npz")
    with pytest.raises(InputError, match="test images are not the same"):
        load_collections([first, other])
    (other / "subject.json").write_text(
        '{"kind": "run", "title": "a", "dataset": "b", "source": "model"}'
    )
    with pytest.raises(
        InputError, match="subject.json is damaged: kind must be one of evaluation"
    ):
        load_collections([other])
    (other / "subject.json").unlink()
    with pytest.raises(InputError, match="no finished run: it has no config.json"):
        load_collections([other])


def test_runs_on_own_data_are_judged_in_words(tmp_path, monkeypatch):
    """What calibration was and is stands first, of single runs."""
    folders = [
        make_run(tmp_path / "v", types=None),
        make_run(tmp_path / "a", "ar_adals", types=None),
        make_run(tmp_path / "l0", "ls", seed=0, types=None),
        make_run(tmp_path / "l1", "ls", seed=1, types=None),
    ]
    (collection,) = load_collections(folders)
    assert not verdict.all_verdicts([collection])  # the paper's data
    assert len(answer.answers([collection])[0].paragraphs) == 1
    monkeypatch.setattr(verdict, "is_own", lambda dataset: True)
    (section,) = verdict.all_verdicts([collection])
    assert section.first and section.title.endswith("their confidence be trusted?")
    (first, before), (second, after) = section.paragraphs
    (glance,) = answer.answers([collection])
    (summary, whole), (best, _) = glance.paragraphs
    assert best == f"On {N} test images"
    ends = [group.clean_sample.intervals["ece"] for group in collection.groups[:3]]
    ends = [f"{100 * a:.2f} % [{100 * b:.2f}, {100 * c:.2f}]" for a, b, c in ends]
    assert summary == "Before and after"
    assert f"(ECE) was {ends[0]} with Vanilla and is {ends[2]} with AR-AdaLS" in whole
    assert first.startswith("Vanilla") and second.startswith("AR-AdaLS")
    measured = collection.groups[0].clean_sample.intervals["ece"][0]
    assert f"(ECE, 15 bins) is {100 * measured:.2f} %" in before
    assert f"that of {first}" in after and "same examples" not in before
