"""AR-AdaLS: classifiers that know how sure they are.

The names for use in one's own Keras code, such as `fit` and `audit`;
`python -m ar_adals_tf` lists the commands.
"""

from ar_adals_tf.process import interruption  # noqa: F401, it comes before slow imports

# isort: split
from typing import TYPE_CHECKING

from ar_adals_tf.lazy import lazy_names
from ar_adals_tf.process.registration import register_when_keras_is_there
from ar_adals_tf.version import __version__ as __version__

if TYPE_CHECKING:
    from ar_adals_tf import attacks as attacks
    from ar_adals_tf import calibration as calibration
    from ar_adals_tf.auditing import Audit as Audit
    from ar_adals_tf.auditing import audit as audit
    from ar_adals_tf.calibrated import (
        with_margin_temperature as with_margin_temperature,
    )
    from ar_adals_tf.calibrated import with_temperature as with_temperature
    from ar_adals_tf.calibrated import with_vector_scaling as with_vector_scaling
    from ar_adals_tf.calibration.floor import calibration_floor as calibration_floor
    from ar_adals_tf.calibration.inference import (
        bootstrap_intervals as bootstrap_intervals,
    )
    from ar_adals_tf.calibration.inference import (
        paired_difference as paired_difference,
    )
    from ar_adals_tf.calibration.measures import (
        expected_calibration_error as expected_calibration_error,
    )
    from ar_adals_tf.calibration.measures import summary as summary
    from ar_adals_tf.calibration.temperature import (
        apply_temperature as apply_temperature,
    )
    from ar_adals_tf.calibration.temperature import fit_temperature as fit_temperature
    from ar_adals_tf.callbacks.ar_adals import ARAdaLS as ARAdaLS
    from ar_adals_tf.callbacks.validation import measure as measure
    from ar_adals_tf.figures.notebook import reliability_diagram as reliability_diagram
    from ar_adals_tf.fitting.model_fit import fit as fit
    from ar_adals_tf.fitting.preparing import Prepared as Prepared
    from ar_adals_tf.fitting.preparing import prepare as prepare
    from ar_adals_tf.levels import RobustnessLevels as RobustnessLevels
    from ar_adals_tf.metrics import ExpectedCalibrationError as ExpectedCalibrationError
    from ar_adals_tf.pipeline import soft_labels as soft_labels
    from ar_adals_tf.robustness import RobustnessIndex as RobustnessIndex
    from ar_adals_tf.smoothing import AdaptiveLabelSmoothing as AdaptiveLabelSmoothing

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    attacks="attacks",
    auditing="Audit audit",
    calibrated="with_margin_temperature with_temperature with_vector_scaling",
    calibration="calibration apply_temperature bootstrap_intervals calibration_floor "
    "expected_calibration_error fit_temperature paired_difference summary",
    callbacks="ARAdaLS measure",
    figures="reliability_diagram",
    fitting="Prepared fit prepare",
    metrics="ExpectedCalibrationError",
    levels="RobustnessLevels",
    pipeline="soft_labels",
    robustness="RobustnessIndex",
    smoothing="AdaptiveLabelSmoothing",
    version="__version__",
)

register_when_keras_is_there()
