"""An extension of Griffe: our `Example:` is a section of examples, code and output."""

from typing import Any

import griffe


class Examples(griffe.Extension):
    """Read `Example:` as Google's `Examples:`."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section of a docstring that was just read."""
        if obj.docstring:
            text = obj.docstring.value
            obj.docstring.value = text.replace("\nExample:\n", "\nExamples:\n")
