"""Algorithm 1 as a Keras callback, and what it needs around it."""

from typing import TYPE_CHECKING

from ar_adals_tf.lazy import lazy_names

if TYPE_CHECKING:
    from ar_adals_tf.callbacks.ar_adals import ARAdaLS as ARAdaLS
    from ar_adals_tf.callbacks.validation import measure as measure

__getattr__, __dir__, __all__ = lazy_names(
    __name__, ar_adals="ARAdaLS", validation="measure"
)
