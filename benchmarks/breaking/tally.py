"""The table: a row for each kind of breakage, beside version 0.1.0's."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.breaking.jobs import Arena


@dataclass
class Tally:
    """How often something was tried, and what failed."""

    tries: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    note: str = ""

    def tried(self, *complaints: str | None, kind: str = "", how: str = "") -> None:
        """Count a try. It failed if there is a complaint."""
        self.tries += 1
        self.failed(*complaints, kind=kind, how=how)

    def failed(self, *complaints: str | None, kind: str = "", how: str = "") -> None:
        """Count a failure of a try if there is a complaint; `how` reproduces it."""
        real = [one for one in complaints if one]
        if real:
            kind = "traceback" if "traceback" in real[0] else kind or "wrong"
            self.failures.append((kind, f"{how}: {'; '.join(real)}"))

    def add(self, other: "Tally") -> None:
        """Add another tally to this one."""
        self.tries += other.tries
        self.failures += other.failures

    def summary(self) -> str:
        """Return the failures, such as `3: 2 traceback, 1 wrong`."""
        counted = Counter(kind for kind, _ in self.failures)
        kinds = ", ".join(f"{count} {kind}" for kind, count in counted.items())
        text = f"{len(self.failures)}: {kinds}" if self.failures else "0"
        return f"{text} ({self.note})" if self.note else text


@dataclass(frozen=True)
class Row:
    """A kind of breakage.

    Attributes:
        title: What is tried.
        before: Tries and failures that version 0.1.0 had.
        tries: Number of tries that the row makes by itself.
        breaks: Makes the tries, `breaks(arena, tries)`.
    """

    title: str
    before: tuple[str, str]
    tries: int
    breaks: Callable[[Arena, int], Tally]
