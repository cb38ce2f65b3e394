"""Smaller copies of a trained run: pruned, in fewer bits; are they still calibrated?"""

from ar_adals_tf.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__, job="compress", pruning="magnitude_mask prune sparsity_of"
)
