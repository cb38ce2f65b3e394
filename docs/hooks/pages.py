"""A hook of MkDocs for pages that are read in the repository as well.

A line `{include NAME}` becomes the document of this name of the repository. Links to
files outside of docs/ become the names of these files: the site has them not, and knows
no address of the repository.
"""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the text of a page as the site has it.

    Example:
        >>> on_page_markdown("see [all figures](../baselines/README.md).")
        'see all figures (`baselines/README.md`).'
    """
    included = re.fullmatch(r"\{include (\S+)\}\s*", markdown)
    if included:
        text = (ROOT / included[1]).read_text(encoding="utf-8")
        markdown = re.sub(r"\]\((?!\w+://|#)", "](../", text)
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)#]+)[^)]*\)", r"\1 (`\2`)", markdown)
