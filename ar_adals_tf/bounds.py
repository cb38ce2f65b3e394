"""Which numbers a setting may be, said once: in words and as a test."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

#: The lowest and the highest value of inputs: numbers, or one for each column.
Range = tuple[float | Sequence[float], float | Sequence[float]]
#: Noise of ten times the range of the inputs leaves nothing of an image.
MOST_SIGMA = 10


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A range of finite numbers. `str(bound)` says it in words.

    `least` and `most` are allowed themselves, `above` and `below` are not.

    Example:
        >>> share = Bound(above=0, most=1)
        >>> str(share), share.allows(0), share.allows(1)
        ('above 0 and at most 1', False, True)
    """

    least: float = -inf
    above: float = -inf
    most: float = inf
    below: float = inf
    whole: bool = False

    def allows(self, value: float) -> bool:
        """Tell whether a number lies within the bound. NaN and infinity never do."""
        return (
            self.least <= value <= self.most
            and self.above < value < self.below
            and (not self.whole or value % 1 == 0)
        )

    def needs(self, value: float) -> str:
        """Return the limit that a number breaks, in words; all limits for NaN.

        Example:
            >>> Bound(least=1, most=1000).needs(0), Bound(least=1, most=1000).needs(1e9)
            ('at least 1', 'at most 1,000')
        """
        if self.most < inf and value < self.least:
            return f"at least {_text(self.least)}"
        if value > self.most:
            return f"at most {_text(self.most)}"
        return str(self)

    def __str__(self) -> str:
        """Return the bound in words."""
        if self.least > -inf and self.most < inf:
            both = f"between {_text(self.least)} and {_text(self.most)}"
            return "a whole number " * self.whole + both
        limits = {
            "at least": self.least,
            "above": self.above,
            "at most": self.most,
            "below": self.below,
        }
        words = [f"{w} {_text(x)}" for w, x in limits.items() if abs(x) < inf]
        return "a whole number " * self.whole + " and ".join(words)


#: What Keras and NumPy accept as a seed.
SEEDS = Bound(least=0, most=2**32 - 1)


def _text(number: float) -> str:
    """Return a number as people write it: 4,294,967,295 and not 4.29497e+09."""
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"
