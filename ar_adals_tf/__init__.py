"""AR-AdaLS: classifiers that know how sure they are.

The names for use in one's own Keras code; the commands are
`python -m ar_adals_tf.train`, `.compute_robustness` and `.evaluate`.
"""

from ar_adals_tf import interruption as interruption  # it comes before slow imports

# isort: split
from typing import TYPE_CHECKING

from ar_adals_tf.lazy import lazy_names
from ar_adals_tf.version import __version__ as __version__

if TYPE_CHECKING:
    from ar_adals_tf.calibrated import (
        with_margin_temperature as with_margin_temperature,
    )
    from ar_adals_tf.calibrated import with_temperature as with_temperature
    from ar_adals_tf.calibrated import with_vector_scaling as with_vector_scaling
    from ar_adals_tf.callbacks import ARAdaLS as ARAdaLS
    from ar_adals_tf.metrics import ExpectedCalibrationError as ExpectedCalibrationError
    from ar_adals_tf.model_fit import fit as fit
    from ar_adals_tf.pipeline import RobustnessLevels as RobustnessLevels
    from ar_adals_tf.pipeline import soft_labels as soft_labels
    from ar_adals_tf.preparing import Prepared as Prepared
    from ar_adals_tf.preparing import prepare as prepare
    from ar_adals_tf.robustness import RobustnessIndex as RobustnessIndex
    from ar_adals_tf.smoothing import AdaptiveLabelSmoothing as AdaptiveLabelSmoothing
    from ar_adals_tf.validation import measure as measure

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    calibrated="with_margin_temperature with_temperature with_vector_scaling",
    callbacks="ARAdaLS",
    model_fit="fit",
    metrics="ExpectedCalibrationError",
    pipeline="RobustnessLevels soft_labels",
    preparing="Prepared prepare",
    robustness="RobustnessIndex",
    smoothing="AdaptiveLabelSmoothing",
    validation="measure",
    version="__version__",
)
