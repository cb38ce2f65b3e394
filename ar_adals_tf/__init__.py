"""AR-AdaLS: classifiers that know how sure they are.

The names for use in one's own Keras code; the commands are
`python -m ar_adals_tf.train`, `.compute_robustness` and `.evaluate`.
"""

from ar_adals_tf.callbacks import ARAdaLS
from ar_adals_tf.metrics import ExpectedCalibrationError
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing
from ar_adals_tf.soft_labels import RobustnessLevels, soft_labels
from ar_adals_tf.version import __version__

__all__ = [
    "ARAdaLS",
    "AdaptiveLabelSmoothing",
    "ExpectedCalibrationError",
    "RobustnessIndex",
    "RobustnessLevels",
    "__version__",
    "soft_labels",
]
