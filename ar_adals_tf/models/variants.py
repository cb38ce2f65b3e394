"""What a residual network can have in the place of batch normalisation, and beside it.

Networks of `MODELS` whose row says `variants` take `norm` and `attention`. This module
loads no Keras.
"""

#: How `norm` normalises: what each mean and variance is over.
NORMS = ("batch", "group", "layer")

#: What weighs the channels of each residual branch.
ATTENTIONS = ("none", "se")

#: The most groups of group normalisation, as in Wu and He (2018).
MOST_GROUPS = 32

#: By how much squeeze and excitation narrows the channels, as in Hu et al. (2018).
REDUCTION = 16


def number_of_groups(channels: int) -> int:
    """Return the number of groups that group normalisation divides channels into.

    It is the largest divisor of the channels, up to `MOST_GROUPS`, that leaves each
    group two channels or more: with one it would be instance normalisation.

    Example:
        >>> [number_of_groups(channels) for channels in (16, 48, 64, 512)]
        [8, 24, 32, 32]
    """
    most = min(MOST_GROUPS, channels // 2)
    return next((n for n in range(most, 1, -1) if channels % n == 0), 1)
