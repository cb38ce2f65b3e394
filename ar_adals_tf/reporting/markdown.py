"""A report as Markdown, with links to its files."""

from collections.abc import Sequence

from ar_adals_tf.reporting import escape, missing
from ar_adals_tf.reporting.items import Cards, Item, Section, Table
from ar_adals_tf.reporting.missing import Lack


def whole(
    title: str,
    sections: Sequence[Section],
    found: Sequence[Lack],
    made_by: tuple[str, str],
) -> str:
    """Return a report.

    Args:
        title: Its title.
        sections: What it shows. Items have the names of their files.
        found: What is missing.
        made_by: The title of the last section, and its commands.
    """
    parts = [f"# {escape.markdown(title)}\n"]
    for section in sections:
        parts.append(f"## {escape.markdown(section.title)}\n")
        parts += [
            f"**{escape.markdown(name)}**: {escape.markdown(words)}\n"
            for name, words in section.paragraphs
        ]
        parts += map(_item, section.items)
    if found:
        parts += [f"## {missing.TITLE}\n", *map(_lack, found)]
    last, commands = made_by
    return "\n".join([*parts, f"## {last}\n\n{escape.code_block(commands)}\n"])


def _item(item: Item) -> str:
    """Return a table, a picture or the table of cards."""
    title, caption = escape.markdown(item.title), escape.markdown(item.caption)
    parts = [f"### {title}\n"]
    if isinstance(item, (Table, Cards)):
        table = item if isinstance(item, Table) else item.table
        if table.rows:
            file = f"tables/{item.name}.csv"
            parts += [table.markdown(), f"{caption}\n", f"[CSV]({file})\n"]
    elif item.figure is not None:
        file = f"figures/{item.name}"
        parts += [f"![{title}]({file}.png)\n", f"{caption}\n", f"[PDF]({file}.pdf)\n"]
    if words := missing.line(item):
        parts.append(f"Missing: {escape.markdown(words)}.\n")
    return "\n".join(parts)


def _lack(found: Lack) -> str:
    parts = [f"{escape.markdown(found.missing.what)}:\n"]
    if found.missing.commands:
        parts.append(escape.code_block("\n".join(found.missing.commands)) + "\n")
    return "\n".join(parts)
