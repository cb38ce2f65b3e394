"""The images on the page: whose they are, what is said of them, and how they look."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from ar_adals_tf.evaluation.gallery import Gallery, gallery_path
from ar_adals_tf.reporting import contents, page
from ar_adals_tf.reporting.collection import load_collections
from ar_adals_tf.reporting.gallery import gallery, magnification
from ar_adals_tf.reporting.packed import pack, unpacked
from ar_adals_tf.robustness import RobustnessIndex
from tests.helpers import Page, add_index, make_run, stored
from tests.reporting.galleries import EVIL, NAMES, add_gallery


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("gallery")
    folders = [make_run(root / m, m, types=None) for m in ("vanilla", "ar_adals")]
    add_index(folders[0])
    where = add_gallery(folders[0])
    return folders, where


def test_cards_say_what_the_stored_predictions_say(runs):
    """Oracle: the runs' predictions, read plainly."""
    folders, where = runs
    (cards,) = gallery(load_collections(folders)[0])
    both = {"Vanilla": stored(folders[0]), "AR-AdaLS": stored(folders[1])}
    shown = [card for own in cards.groups.values() for card in own]
    assert [len(own) for own in cards.groups.values()] == [4, 4]
    for card, place in zip(shown, where, strict=True):
        lines = dict(card.lines)
        for who, (labels, p) in both.items():
            predicted = p[place].argmax()
            words = f"{NAMES[predicted]} {100 * p[place].max():.0f} %"
            wrong = ", wrong" if predicted != labels[place] else ""
            assert lines[who] == words + wrong
        assert card.title == NAMES[labels[place]]
    assert "Vanilla, adversarial" in dict(shown[0].lines)
    assert len(shown[0].pictures) == 3
    assert len(shown[-1].pictures) == 1  # none was found
    assert dict(shown[-1].lines)["Length of the change"] == "none found"
    assert [row.label for row in cards.table.rows][0] == f"1, {shown[0].title}"


def test_the_change_is_shown_as_many_times_as_is_said(runs):
    """Oracle: the pixels of the PNG file."""
    folders, _ = runs
    kept = Gallery.load(folders[0] / "robustness" / "cw" / "gallery.npz")
    (cards,) = gallery(load_collections(folders)[0])
    card = cards.groups["Least robust"][0]
    words, content = card.pictures[2]
    times = float(words.removeprefix("change × "))
    pixels = np.asarray(Image.open(io.BytesIO(content)), float) / 255
    assert np.allclose(pixels, 0.5 + times * kept.differences[0, ..., 0], atol=1 / 255)
    assert times == magnification(kept.differences[0]) == 100
    original = np.asarray(Image.open(io.BytesIO(card.pictures[0][1])))
    assert np.array_equal(original, np.rint(255 * kept.images[0, ..., 0]))


@pytest.mark.parametrize(
    ("most", "times"),
    [(0.5, 1), (0.26, 1), (0.25, 2), (0.1, 5), (1, 0.5), (0.004, 100)],
)
def test_a_change_fills_the_range_and_does_not_leave_it(most, times):
    assert magnification(np.array([0, -most])) == pytest.approx(times)


def test_the_page_shows_them_and_the_markdown_has_their_words(runs, tmp_path):
    folders, _ = runs
    with pytest.MonkeyPatch.context() as patch:  # the rest is drawn elsewhere
        patch.setattr(contents, "paper_sections", lambda collections: [])
        patch.setattr(contents, "answers", lambda collections: [])
        patch.setattr(contents, "attack_sections", lambda collections: [])
        text = page.write_report(folders, tmp_path).read_text()
    found = Page(text)
    assert not found.open and "gallery_cifar10" in found.ids
    assert len(found.images) == 7 * 3 + 1
    for image in found.images:
        content = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
        assert Image.open(io.BytesIO(content)).size == (4, 4)
        assert image["alt"]
    assert EVIL not in text and "image-rendering: pixelated" in text
    assert "Vanilla, adversarial" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "tables" / "gallery_cifar10.csv").is_file()
    assert not re.search(r"<section[^>]*><h2>What is missing", text)


def test_a_gallery_of_another_index_is_not_shown(tmp_path):
    vanilla = make_run(tmp_path / "v", types=None)
    add_index(vanilla)
    add_gallery(vanilla)
    path = vanilla / "robustness" / "cw" / "test.npz"
    index = RobustnessIndex.load(path)
    RobustnessIndex(index.ids, index.distances[::-1].copy(), index.found).save(path)
    assert gallery(load_collections([vanilla])[0]) == []
    gallery_path(path).unlink()
    assert gallery(load_collections([vanilla])[0]) == []


def test_a_zip_file_of_runs_takes_the_images_along(runs, tmp_path):
    folders, _ = runs
    with unpacked([pack(folders, tmp_path / "runs.zip")]) as (there, places, *_):
        (cards,) = gallery(load_collections(there, str, places)[0])
        (own,) = gallery(load_collections(folders)[0])
        assert cards.groups == own.groups
