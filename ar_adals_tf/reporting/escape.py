"""Texts that may come from a file, made harmless for where they go.

Run directories are shared between people, so a name in one may hold anything. HTML has
its own function, `ar_adals_tf.reporting.html.text`, and pictures have
`ar_adals_tf.figures.style.printable`.
"""

import re

#: What Markdown has a meaning for, wherever it stands in a line.
_MARKDOWN = re.compile(r"[\\`*\[\]<>|&~$]|(?<![^\W_])_|_(?![^\W_])")

#: What begins a heading, a list or a rule, at the start of a line alone: the signs,
#: after a number if there is one.
_BLOCK = re.compile(r"^(\d*)((?<=\d)[.)](?=\s|$)|#+(?=\s|$)|[-+=](?=[\s=-]|$))")

#: What begins a formula in a spreadsheet.
_FORMULA = ("=", "+", "-", "@")


def markdown(text: str) -> str:
    r"""Return a text as Markdown that shows it as it is, on one line.

    Example:
        >>> markdown("gaussian_blur | <b> *x*")
        'gaussian_blur \\| \\<b\\> \\*x\\*'
    """
    line = " ".join(text.split())
    line = _MARKDOWN.sub(r"\\\g<0>", line)
    return _BLOCK.sub(r"\1\\\g<2>", line)


def code_block(text: str) -> str:
    """Return a text as a block of code in Markdown.

    The fence is longer than any row of backticks in the text.

    Example:
        >>> print(code_block("ls"))
        ```
        ls
        ```
    """
    rows = re.findall("`+", text)
    fence = "`" * max(3, 1 + max(map(len, rows), default=0))
    return f"{fence}\n{text}\n{fence}"


def spreadsheet(text: str) -> str:
    """Return a text as a cell of a CSV file that no program takes for a formula.

    It has one line, because some programs begin a row at a bare carriage return.
    Numbers are no texts: they stay as they are.

    Example:
        >>> spreadsheet("=1+1"), spreadsheet("AR-AdaLS")
        ("'=1+1", 'AR-AdaLS')
    """
    line = " ".join(text.splitlines())
    return f"'{line}" if line.lstrip().startswith(_FORMULA) else line
