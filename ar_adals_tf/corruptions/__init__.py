"""The 19 corruptions of CIFAR-10-C and ImageNet-C, made from any images."""

from ar_adals_tf.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    apply="CORRUPTIONS EXTRA STANDARD GREY SEVERITIES corrupt unavailable",
)
