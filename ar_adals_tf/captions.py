"""What to see in a figure: the words below it in a file or in the report.

Here stand the captions of the figures that a command writes beside its results. The
report holds the words of those that it alone shows.
"""

RELIABILITY_DIAGRAM = (
    "A calibrated model's bars end on the diagonal. Hatched: the gap between how "
    "sure the model is and how often it is right; below the diagonal it is "
    "overconfident. Error bars: Wilson's 95 % intervals of each bin's accuracy. "
    "Bottom: how many images each bin holds."
)

LEVELS = (
    "Images ordered by how small a change flips the vanilla model, and cut into "
    "equal levels. Shaded: where confidence and accuracy part. A model that is "
    "calibrated on average may still be overconfident on its least robust images."
)

OWN_LEVELS = (
    "Images ordered by how small a change would flip the prediction, and cut into "
    "equal levels, the same for every model. Shaded: where confidence and accuracy "
    "part. A model that is calibrated on average may still be overconfident on its "
    "least robust images."
)

SOFT_LABELS = (
    "The label of the correct class that each robustness level is trained with. "
    "It falls while the level's validation images are overconfident and rises while "
    "they are underconfident."
)

OVER_SETTING = (
    "One training a value. A flat stretch means that the choice hardly matters; a "
    "jagged line, that the differences are noise."
)

LEVEL_AGREEMENT = (
    "Each row shares out the images of one level. If both rank alike, all lie on "
    "the diagonal; only the level matters to AR-AdaLS."
)
