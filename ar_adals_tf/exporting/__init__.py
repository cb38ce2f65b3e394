"""A run's calibrated model in the formats that are served, checked on real images."""

from ar_adals_tf.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__, formats="FORMATS Format parse_formats", job="export"
)
