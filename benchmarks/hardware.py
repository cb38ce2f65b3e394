"""What a figure was measured on."""

from ar_adals_tf.hardware import describe

__all__ = ["describe"]
