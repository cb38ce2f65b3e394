"""The first screen: which model is best, how certain that is, and its picture."""

import numpy as np
import pytest

from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.reporting import answer, contents
from ar_adals_tf.reporting.collection import load_collections
from ar_adals_tf.reporting.group import each_with_temperature
from ar_adals_tf.reporting.items import Picture, Table
from tests.helpers import add_index, make_run, plain_ece, stored

SMALL = "fashion_mnist_small"


def ready(root, sharpness, **more):
    """Runs of four methods on images that follow no paper, each of a sharpness.

    Many images, of which the confidences are true at sharpness 1.
    """
    folders = []
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 10))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(10, p=row) for row in p])
    ids = np.array([b"test__%d" % i for i in range(4000)])
    for method, factor in sharpness.items():
        folder = make_run(
            root / method, method, dataset=SMALL, labels=labels, types=None, **more
        )
        scaled = (factor * logits).astype(np.float32)
        Predictions(ids, labels, scaled).save(folder / "predictions.npz")
        folders.append(folder)
    return folders


def words_of(folders):
    (section,) = answer.answers(load_collections(folders))
    assert section.first
    return section, dict(section.paragraphs)


def test_the_best_is_named_with_its_numbers_and_what_is_not_higher(tmp_path):
    """Oracle: the ECE, computed plainly. The labels are drawn from the first one's."""
    folders = ready(tmp_path, {"vanilla": 2.5, "ls": 1.0, "adals": 1.01})
    section, words = words_of(folders)
    (said,) = words.values()
    eces = {f.name: 100 * plain_ece(*stored(f)) for f in folders}
    best = min(eces, key=eces.get)
    titles = {"ls": "Label smoothing", "adals": "AdaLS", "vanilla": "Vanilla"}
    assert list(words) == ["On 4,000 test images"]
    assert said.startswith(f"{titles[best]} has the lowest calibration error (ECE): ")
    assert f": {eces[best]:.2f} % [" in said
    assert f"against {eces['vanilla']:.2f} % [" in said and "of Vanilla" in said
    difference = eces["vanilla"] - eces[best]
    assert f"The difference of {difference:.2f} percentage points [" in said
    assert "] is significant." in said
    (other,) = set(titles) - {best, "vanilla"}
    assert f"Not significantly higher: {titles[other]}." in said
    assert said.endswith("so the variation between trainings is unknown.")
    picture, table = section.items
    assert isinstance(picture, Picture) and isinstance(table, Table)
    assert picture.methods == ("Vanilla", titles[best])


def test_one_seed_is_not_first_where_others_have_two(tmp_path):
    """AdaLS is calibrated, but at seed 0 alone: it may be an easy one."""
    two = {"vanilla": 2.5, "ls": 1.3}
    folders = ready(tmp_path / "0", two | {"adals": 1.0})
    folders += ready(tmp_path / "1", two, seed=1)
    section, words = words_of(folders)
    (said,) = words.values()
    assert said.startswith("Label smoothing") and "has the lowest calibration" in said
    assert "Not compared: AdaLS, which has fewer seeds." in said
    assert "AdaLS" not in section.items[0].methods


def test_equals_are_not_called_better(tmp_path):
    folders = ready(tmp_path, {"vanilla": 1.0, "ls": 1.0})
    _, words = words_of(folders)
    (said,) = words.values()
    assert "Not significantly higher: Label smoothing." in said
    assert "is significant" not in said


def test_a_baseline_that_nothing_beats_is_said_to_be_best(tmp_path):
    folders = ready(tmp_path, {"vanilla": 1.0, "ls": 0.4})
    section, words = words_of(folders)
    (said,) = words.values()
    assert said.startswith("Vanilla has the lowest")
    assert "Every other ECE is significantly higher." in said
    assert section.items[0].methods == ("Vanilla", "Label smoothing")


def test_the_picture_is_by_level_where_there_are_levels_else_reliability(tmp_path):
    folders = ready(tmp_path, {"vanilla": 2.0, "ls": 1.0})
    (picture, _) = words_of(folders)[0].items
    assert picture.title.startswith("Accuracy against confidence: Vanilla and Label")
    add_index(folders[0])
    (picture, _) = words_of(folders)[0].items
    assert picture.title.startswith("Confidence and accuracy by robustness: Vanilla")


def test_one_model_has_a_table_and_nothing_to_compare_with(tmp_path):
    (collection,) = load_collections(ready(tmp_path, {"vanilla": 2.0}))
    assert answer.side_by_side(collection) is None
    (section,) = answer.answers([collection])
    assert [type(item) for item in section.items] == [Table]
    assert not section.paragraphs


def test_the_verdict_on_a_model_that_is_alone_comes_before_its_table(tmp_path):
    collections = load_collections(ready(tmp_path, {"vanilla": 2.0}))
    first, second, *rest = contents.report_sections(collections)
    assert first.title.endswith("how far can its confidence be trusted?")
    assert second.title.startswith("At a glance") and first.first and second.first
    assert not any(section.first for section in rest)


def test_a_page_that_follows_no_paper_asks_for_nothing_of_it(tmp_path):
    """One method, one seed, no shift, no levels: the page is whole without."""
    collections = load_collections(ready(tmp_path, {"vanilla": 2.0, "ar_adals": 1.0}))
    sections = contents.report_sections(collections)
    titles = " ".join(section.title for section in sections)
    assert "Figure" not in titles and "Table" not in titles
    items = [item for section in sections for item in section.items]
    assert items and not any(item.all_missing() for item in items)
    assert not collections[0].follows_the_paper


@pytest.mark.parametrize("name", ["trained", "as_given"])
def test_a_model_of_ones_own_on_the_papers_data_asks_for_nothing_of_it(tmp_path, name):
    """Also under shift, where the paper has numbers of these severities."""
    tuned = {"finetune": True, "model": "my.keras"}
    tuned["epochs"] = 0 if name == "as_given" else 3
    folder = make_run(tmp_path / "run", temperature=2.0, extra=tuned)
    collections = load_collections([folder])
    sections = contents.report_sections(collections)
    items = [item for section in sections for item in section.items]
    (table,) = (one for one in items if one.name == "table_4_cifar10")
    assert [row.label for row in table.rows] == [
        group.label for group in each_with_temperature(collections[0].groups)
    ]
    assert not any(item.all_missing() for item in items)


def test_labels_say_no_shared_settings_and_the_caption_does(tmp_path):
    folders = ready(tmp_path, {"vanilla": 2.0, "ls": 1.0}, epochs=3)
    (collection,) = load_collections(folders)
    assert [group.label for group in collection.groups] == [
        "Vanilla",
        "Label smoothing",
    ]
    expected = "Settings that differ from the defaults: all runs have epochs 3. "
    assert collection.settings_words == expected
    (section,) = answer.answers([collection])
    assert expected in section.items[-1].caption


def test_a_setting_that_one_method_alone_has_is_not_that_of_all(tmp_path):
    vanilla = ready(tmp_path / "a", {"vanilla": 2.0}, epochs=3)
    smoothed = ready(tmp_path / "b", {"ls": 1.0}, epochs=3, label_smoothing=0.02)
    (collection,) = load_collections(vanilla + smoothed)
    assert collection.settings_words == (
        "Settings that differ from the defaults: all runs have epochs 3; "
        "Label smoothing has eps 0.02. "
    )


@pytest.mark.parametrize(
    ("dataset", "extra", "follows"),
    [
        ("cifar10", {}, True),
        ("svhn_cropped", {}, True),
        (SMALL, {}, False),
        ("fashion_mnist", {}, False),
        ("cifar10", {"finetune": True, "model": "my.keras"}, False),
        ("cifar10", {"limit_examples": 3000}, False),
    ],
)
def test_which_collections_follow_the_paper(tmp_path, dataset, extra, follows):
    run = make_run(tmp_path / "run", dataset=dataset, types=None, extra=extra)
    (collection,) = load_collections([run])
    assert collection.follows_the_paper == follows
