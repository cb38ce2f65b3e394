"""Draw the pictures of the documents from runs.

    python -m ar_adals_tf.quickstart
    python -m ar_adals_tf.reproduce --study=fashion_mnist_small
    python docs/pictures.py runs/quickstart runs/fashion_mnist_small-study

writes docs/one_example.png and docs/soft_labels.png from the first folder, and
docs/before_and_after.png from the second.
"""

import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ar_adals_tf import datasets, figures
from ar_adals_tf.attacks import carlini_wagner_l2
from ar_adals_tf.experiment.runs import index_path, load_model, saved_config
from ar_adals_tf.figures import style
from ar_adals_tf.reporting.collection import load_collections
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.smoothing import epsilon_from_p, soften
from ar_adals_tf.tour.runs import ATTACK

HERE = Path(__file__).parent
CLASSES = ["T-shirt", "trousers", "pullover", "dress", "coat"]
CLASSES += ["sandal", "shirt", "sneaker", "bag", "boot"]
LARGER = 5  # how much the drawn change is magnified


def main(tour: Path, study: Path) -> None:
    """Draw all pictures."""
    draw_method(tour)
    before_and_after = draw_before_and_after(study)
    figures.save(before_and_after, HERE / "before_and_after.png", dpi=110)


def draw_before_and_after(study: Path) -> Figure:
    """Draw confidence and accuracy by level, means over the runs of a study."""
    runs = sorted(study.glob("*-vanilla-*")) + sorted(study.glob("*-ar_adals-[0-9]"))
    (collection,) = load_collections(runs, lambda words: None)
    levels, count = collection.levels
    panels = {}
    for group in collection.groups:
        ece = 100 * group.clean_sample.intervals["ece"].estimate
        panels[f"{group.label}: ECE {ece:.1f} %"] = group.by_level(levels, count)
    return figures.draw_levels(panels)


def draw_method(folder: Path) -> None:
    """Draw one example followed through, and how the soft labels moved."""
    vanilla, smoothed = folder / "vanilla", folder / "ar_adals"
    config = saved_config(smoothed)
    train = datasets.load(config.dataset, limit_examples=config.limit_examples)["train"]
    index = RobustnessIndex.load(index_path(vanilla, ATTACK, {}, "train"))
    model = load_model(vanilla / "model.keras")
    p = np.array(json.loads((smoothed / "smoothing.json").read_text())["p"])
    example = draw_example(train, index, model, p)
    figures.save(example, HERE / "one_example.png", dpi=110)
    rows = np.genfromtxt(smoothed / "history.csv", delimiter=",", names=True)
    labels = np.stack([rows[f"p{r}"] for r in range(len(p))], axis=1)
    figures.save(figures.draw_soft_labels(labels), HERE / "soft_labels.png", dpi=110)


@style.styled
def draw_example(train, index, model, p) -> Figure:
    """Draw an image of the lowest and one of the highest level, step by step.

    Each is the image in the middle of its level among those that the model gets right.
    """
    images = train.images / np.float32(255)
    position = {bytes(i): n for n, i in enumerate(train.ids)}
    rows = np.array([position[bytes(i)] for i in index.ids])
    right = model.predict(images[rows], verbose=0).argmax(1) == train.labels[rows]
    levels = index.levels(len(p))
    figure, panels = style.new_figure(
        8.6, 4.6, 2, 4, width_ratios=[1, 1, 1, 1.5], squeeze=False
    )
    for axes, level in zip(panels, (0, len(p) - 1), strict=True):
        own = np.flatnonzero((levels == level) & right & index.found)
        middle = own[np.argsort(index.distances[own])][len(own) // 2]
        image, label = images[rows[middle]], int(train.labels[rows[middle]])
        found = carlini_wagner_l2(model, image[None])
        changed = found.adversarial[0]
        seen = int(model.predict(changed[None], verbose=0).argmax())
        change = 0.5 + LARGER * (changed - image) / 2
        titles = (
            f"{CLASSES[label]}, level {level}",
            f"seen as {CLASSES[seen]}",
            f"the change, {LARGER} times\nlength {found.distances[0]:.2f}",
        )
        for panel, picture, title in zip(
            axes, (image, changed, change), titles, strict=False
        ):
            panel.imshow(picture[..., 0], cmap="gray", vmin=0, vmax=1)
            panel.set(xticks=[], yticks=[], title=title)
            panel.grid(False)
        one_hot = np.eye(len(CLASSES))[label]
        target = soften(one_hot, epsilon_from_p(p[level], len(CLASSES)), len(CLASSES))
        bars = axes[3].barh(CLASSES, target, color="#c9d7e3")
        bars[label].set_color(style.METHOD_STYLES["ar_adals"].color)
        axes[3].invert_yaxis()
        axes[3].set(xlim=(0, 1), title=f"the label at the end: {target[label]:.3f}")
        axes[3].tick_params(labelsize=7)
        axes[3].grid(axis="x")
    return figure


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
