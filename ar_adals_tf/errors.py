"""The one exception that this package raises for bad input."""


class InputError(ValueError):
    """Something given to the package cannot be used.

    The message is one sentence for a person: what is wrong, what was received,
    what to do about it. The commands print it without a traceback and exit with
    status 2; in Python code it is an ordinary `ValueError`.

    Example:
        >>> raise InputError("alpha must be positive; received -1; give 0.005")
        Traceback (most recent call last):
        ...
        ar_adals_tf.errors.InputError: alpha must be positive; received -1; give 0.005
    """
