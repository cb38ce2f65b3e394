"""What to see in a figure: the words below it in a file or in the report.

Here stand the captions of the figures that a command writes beside its results. The
report holds the words of those that it alone shows.
"""

RELIABILITY_DIAGRAM = (
    "A calibrated model's bars end on the diagonal. Hatched: the gap between "
    "confidence and accuracy; below the diagonal the model is overconfident. Error "
    "bars: Wilson 95 % confidence intervals of each bin's accuracy. Bottom: the number "
    "of images in each bin."
)

LEVELS = (
    "Images are ordered by the smallest change that flips the vanilla model's "
    "prediction, and cut into equal levels. Shaded: the gap between confidence and "
    "accuracy. A model that is calibrated on average may still be overconfident on its "
    "least robust images."
)

OWN_LEVELS = (
    "Images are ordered by the smallest change that would flip the prediction, and cut "
    "into equal levels, the same for every model. Shaded: the gap between confidence "
    "and accuracy. A model that is calibrated on average may still be overconfident on "
    "its least robust images."
)

SOFT_LABELS = (
    "The label of the correct class that each robustness level is trained with. "
    "It falls while the level's validation images are overconfident and rises while "
    "they are underconfident."
)

OVER_SETTING = (
    "One training per value. A flat stretch means that the choice hardly matters. A "
    "jagged line means that the differences are noise."
)

LEVEL_AGREEMENT = (
    "Each row shows into which levels the second ranking puts the images of one level "
    "of the first. If both agree, all images lie on the diagonal. AR-AdaLS uses "
    "nothing but the level."
)
