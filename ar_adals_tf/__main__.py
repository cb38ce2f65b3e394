"""All commands under one name: `ar-adals train --dataset=cifar10`.

`python -m ar_adals_tf train` is the same, and so is `python -m ar_adals_tf.train`.
"""

import ast
import difflib
import pkgutil
import runpy
import sys
from pathlib import Path

from ar_adals_tf.errors import InputError
from ar_adals_tf.process.endings import ending
from ar_adals_tf.process.streams import lasting_streams
from ar_adals_tf.version import __version__

#: How the file of a command ends.
LAST_LINE = "command_line.run(main)"


def commands() -> dict[str, str]:
    """Return the commands and the first sentence of each one's docstring.

    Example:
        >>> commands()["train"]
        'Train a classifier that knows how sure it is, and measure its calibration.'
    """
    folder = Path(__file__).parent
    found = {}
    for module in pkgutil.iter_modules([str(folder)]):
        path = folder / f"{module.name}.py"
        if module.ispkg or module.name == "__main__":
            continue
        text = path.read_text(encoding="utf-8")
        if text.rstrip().endswith(LAST_LINE):
            summary = ast.get_docstring(ast.parse(text)) or ""
            found[module.name] = summary.partition("\n")[0]
    return found


def overview() -> str:
    """Return the help: what the commands do, one line each."""
    rows = [f"    {name:20}{summary}" for name, summary in commands().items()]
    return "\n".join(
        [
            f"ar_adals_tf {__version__}: classifiers that know how sure they are.",
            "",
            "    ar-adals COMMAND --flag=value ...",
            "",
            *rows,
            "",
            "`ar-adals COMMAND --help` lists the flags of a command. Begin with",
            "`ar-adals quickstart`.",
        ]
    )


def chosen(word: str) -> str:
    """Return the command that a word names, with hyphens or underscores.

    Raises:
        InputError: If there is no such command.

    Example:
        >>> chosen("compute-robustness")
        'compute_robustness'
    """
    name, known = word.replace("-", "_"), commands()
    if name in known:
        return name
    if word.startswith("-"):
        raise InputError(
            f"the command comes before its flags; received {word!r} first; write "
            "ar-adals COMMAND --flag=value, and see ar-adals --help for the commands"
        )
    near = difflib.get_close_matches(name, known, 1, 0.4)
    meant = f"did you mean {near[0]}? " if near else ""
    raise InputError(
        f"there is no command {word!r}; {meant}ar-adals --help lists the commands"
    )


def main() -> None:
    """Run the command that the first argument names, or list the commands."""
    first = sys.argv[1] if len(sys.argv) > 1 else "--help"
    with lasting_streams():
        if first in ("--help", "-help", "-h", "help"):
            print(overview())
            sys.stdout.flush()
            return
        if first == "--version":
            print(__version__)
            sys.stdout.flush()
            return
        try:
            name = chosen(first)
        except InputError as error:
            status, sentence = ending(error) or (2, str(error))
            print(sentence, file=sys.stderr)
            sys.exit(status)
    del sys.argv[1]
    runpy.run_module(f"ar_adals_tf.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
