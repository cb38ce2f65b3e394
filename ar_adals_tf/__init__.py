"""AR-AdaLS: classifiers that know how sure they are."""

from ar_adals_tf.version import __version__

__all__ = ["__version__"]
