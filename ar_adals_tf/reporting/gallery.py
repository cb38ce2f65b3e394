"""The least and the most robust test images, and what models say of them."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from ar_adals_tf.evaluation.gallery import Gallery
from ar_adals_tf.reporting.answer import side_by_side
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.group import Group
from ar_adals_tf.reporting.items import Card, Cards, Cell, Column, Row, Table

_CAPTION = (
    "The least and the most robust test images: those that need the smallest and the "
    "largest change until {model} predicts another class, as the robustness index "
    "ranks them. Adversarial: the nearest image with another prediction of {model} "
    "that the attack DDN found. Length: the L2 norm of the change (pixels in [0, 1]). "
    "The change is shown on grey, multiplied by the number below it. An image that a "
    "small change flips deserves little confidence."
)


def gallery(collection: Collection) -> list[Cards]:
    """Return the images that were kept beside the index of the levels, if any were."""
    kept = collection.gallery
    if kept is None or collection.index_path is None or not len(kept.ids):
        return []
    folder = collection.index_path.parents[2].resolve()
    owner = [
        g for g in collection.groups for r in g.runs if r.folder.resolve() == folder
    ]
    attacked = owner[0].label if owner else "the vanilla model"
    said = {attacked: kept.clean} | _other(collection, kept, owner)
    return [_cards(collection, kept, attacked, said)]


def _other(
    collection: Collection, kept: Gallery, owner: Sequence[Group]
) -> dict[str, np.ndarray]:
    """Return what the best other model says of the clean images, by its label."""
    pair = side_by_side(collection)
    if pair is None:
        return {}
    best = pair.best if pair.best not in owner else pair.baseline
    run = best.runs[0]
    places = {one: place for place, one in enumerate(run.predictions.ids.tolist())}
    if any(one not in places for one in kept.ids.tolist()):
        return {}
    where = [places[one] for one in kept.ids.tolist()]
    return {best.label: run.probabilities(run.predictions, best.scaled)[where]}


def _cards(
    collection: Collection,
    kept: Gallery,
    attacked: str,
    said: Mapping[str, np.ndarray],
) -> Cards:
    classes = collection.class_names
    cards = []
    for i, label in enumerate(kept.labels):
        change, true = kept.differences[i], classes[label]
        lines = [(who, _said(p[i], classes, label)) for who, p in said.items()]
        pictures = [(f"{true}, the image", _png(kept.images[i]))]
        found = bool(np.any(change))
        if found:
            lines.append((f"{attacked}, adversarial", _said(kept.attacked[i], classes)))
            times = magnification(change)
            pictures += [
                (f"{true}, adversarial", _png(kept.images[i] + change)),
                (f"change × {times:g}", _png(0.5 + times * change)),
            ]
        length = f"{kept.distances[i]:.2g}" if found else "none found"
        lines.append(("Length of the change", length))
        cards.append(Card(true, pictures, lines))
    half = (len(cards) + 1) // 2
    groups = {"Least robust": cards[:half], "Most robust": cards[half:]}
    name, title = f"gallery_{collection.dataset}", f"Test images, {collection.title}"
    caption = _CAPTION.format(model=attacked)
    heads = list(dict.fromkeys(who for card in cards for who, _ in card.lines))
    rows = [
        Row(f"{i + 1}, {card.title}", [_cell_of(card, head) for head in heads])
        for i, card in enumerate(cards)
    ]
    table = Table(name, title, caption, [Column(h) for h in heads], rows, head="Image")
    return Cards(name, title, caption, groups, table, tuple(said))


def _cell_of(card: Card, head: str) -> Cell:
    return Cell(text=dict(card.lines).get(head, "–"))


def _said(p: np.ndarray, classes: Sequence[str], label: int | None = None) -> str:
    """Return the predicted class with its probability, and whether it is wrong."""
    predicted = int(p.argmax())
    wrong = ", wrong" if label is not None and predicted != label else ""
    return f"{classes[predicted]} {100 * p[predicted]:.0f} %{wrong}"


def magnification(change: np.ndarray) -> float:
    """Return how many times a change can be shown: 1, 2 or 5 times a power of ten.

    Example:
        >>> magnification(np.array([-0.004, 0.002]))
        100.0
    """
    most = 0.5 / float(np.abs(change).max())
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(m * power for m in (1, 2, 5) if m * power <= most * (1 + 1e-9)))


def _png(pixels: np.ndarray) -> bytes:
    """Return an image in [0, 1], `(H, W, 1 or 3)`, as the content of a `.png` file."""
    values = np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8)
    content = io.BytesIO()
    one = values[..., 0] if values.shape[-1] == 1 else values
    Image.fromarray(one).save(content, format="PNG", optimize=True)
    return content.getvalue()
