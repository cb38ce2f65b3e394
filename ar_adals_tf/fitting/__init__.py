"""Training a compiled Keras model in one call."""

from typing import TYPE_CHECKING

from ar_adals_tf.lazy import lazy_names

if TYPE_CHECKING:
    from ar_adals_tf.fitting.model_fit import fit as fit
    from ar_adals_tf.fitting.preparing import Prepared as Prepared
    from ar_adals_tf.fitting.preparing import prepare as prepare

__getattr__, __dir__, __all__ = lazy_names(
    __name__, model_fit="fit", preparing="Prepared prepare"
)
