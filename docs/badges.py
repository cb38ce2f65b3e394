"""Draw the badges of the README from what the package says of itself.

    python docs/badges.py

writes docs/badges/*.svg. No service is asked, so they are seen without a network.
"""

import configparser
from html import escape
from pathlib import Path

from ar_adals_tf.files import atomic_write
from ar_adals_tf.version import __version__

HERE = Path(__file__).parent
_LANGUAGE = "Programming Language :: Python :: "
_CHARACTER, _MARGIN = 6.6, 7  # pixels, of the text below

_BADGE = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" \
aria-label="{name} {value}">
<rect width="{width}" height="20" rx="3" fill="#4b5563"/>
<path d="M{cut} 0h{rest}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{rest}z" fill="#3f51b5"/>
<g fill="#fff" font-family="Verdana, DejaVu Sans, sans-serif" font-size="11">
<text x="7" y="14" textLength="{name_length}">{name}</text>
<text x="{value_start}" y="14" textLength="{value_length}">{value}</text>
</g>
</svg>
"""


def badges() -> dict[str, str]:
    """Return what each badge says, by name."""
    setup = configparser.ConfigParser()
    setup.read(HERE.parent / "setup.cfg", "utf-8")
    about = setup["metadata"]
    lines = about["classifiers"].splitlines()
    pythons = [one.removeprefix(_LANGUAGE) for one in lines if _LANGUAGE in one]
    return {
        "version": __version__,
        "Python": ", ".join(pythons),
        "licence": about["license"],
    }


def draw(name: str, value: str) -> str:
    """Return a badge as SVG."""
    lengths = [round(_CHARACTER * len(text)) for text in (name, value)]
    cut = lengths[0] + 2 * _MARGIN
    width = cut + lengths[1] + 2 * _MARGIN
    return _BADGE.format(
        name=escape(name),
        value=escape(value),
        name_length=lengths[0],
        value_length=lengths[1],
        value_start=cut + _MARGIN,
        cut=cut,
        rest=width - cut - 3,
        width=width,
    )


def main() -> None:
    """Draw all badges."""
    for name, value in badges().items():
        with atomic_write(HERE / "badges" / f"{name.lower()}.svg") as aside:
            aside.write_text(draw(name, value), "utf-8")


if __name__ == "__main__":
    main()
