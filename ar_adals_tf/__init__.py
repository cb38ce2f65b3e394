"""AR-AdaLS: classifiers that know how sure they are.

The names for use in one's own Keras code; the commands are
`python -m ar_adals_tf.train`, `.compute_robustness` and `.evaluate`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ar_adals_tf.version import __version__

if TYPE_CHECKING:
    from ar_adals_tf.callbacks import ARAdaLS
    from ar_adals_tf.join import RobustnessLevels, soft_labels
    from ar_adals_tf.metrics import ExpectedCalibrationError
    from ar_adals_tf.robustness import RobustnessIndex
    from ar_adals_tf.smoothing import AdaptiveLabelSmoothing

__all__ = [
    "ARAdaLS",
    "AdaptiveLabelSmoothing",
    "ExpectedCalibrationError",
    "RobustnessIndex",
    "RobustnessLevels",
    "__version__",
    "soft_labels",
]

_HOME = {
    "ARAdaLS": "callbacks",
    "AdaptiveLabelSmoothing": "smoothing",
    "ExpectedCalibrationError": "metrics",
    "RobustnessIndex": "robustness",
    "RobustnessLevels": "join",
    "soft_labels": "join",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `--help` needs no TensorFlow."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
