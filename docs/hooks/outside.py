"""A hook of MkDocs: links to files outside of docs/ become the names of these files.

The documents are read in the repository as well, where such a link leads to the file.
The site has these files not, and knows no address of the repository.
"""

import re
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the text of a page with `[words](../file)` as `words (file)`.

    Example:
        >>> on_page_markdown("see [all figures](../baselines/README.md).")
        'see all figures (`baselines/README.md`).'
    """
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)#]+)[^)]*\)", r"\1 (`\2`)", markdown)
