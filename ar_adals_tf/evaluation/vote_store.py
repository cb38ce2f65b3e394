"""A folder that keeps the votes of noisy copies, so that interrupted work goes on.

The votes at one sigma lie in `sigma_0.25.npz`, those of its finished parts in
`parts/sigma_0.25/` until it is whole. What decides them, such as the model's digest and
the number of copies, lies in `settings.json`; see `predictions.open_store`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ar_adals_tf.certification.radius import parse_sigmas
from ar_adals_tf.certification.votes import Votes
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.predictions import Predictions, forget_parts, open_store
from ar_adals_tf.robustness import RobustnessIndex

if TYPE_CHECKING:
    from ar_adals_tf.datasets.splits import Split
    from ar_adals_tf.evaluation.smoothed_attack import SmoothedAttack

Images = tuple[np.ndarray, np.ndarray, np.ndarray]

"""Ids, images and labels of some examples."""

Kept = TypeVar("Kept", Votes, RobustnessIndex)

_READ = 500

#: Copies of a part, about: so many are lost at most when the work is interrupted.
_PART = 100_000


class VoteStore:
    """A folder of votes, and of distances of attacks on the smoothed classifier.

    Args:
        folder: The folder; it is made if it is absent.
        settings: What decides the votes, ready for JSON.
        clean: The model's predictions on the images, without noise.
        samples: The two numbers of copies of an image.
    """

    def __init__(
        self,
        folder: str | Path,
        settings: Mapping[str, Any],
        clean: Predictions,
        samples: tuple[int, int],
    ) -> None:
        self.folder, self._clean, self._samples = Path(folder), clean, samples
        open_store(folder, settings)

    def sigmas(self) -> list[float]:
        """Return the standard deviations whose votes are there, ascending."""
        named = sigmas_in(self.folder)
        return sorted(s for s, path in named.items() if self._read(path) is not None)

    def votes(
        self, sigma: float, make: Callable[[Images], Votes], images: Iterable[Images]
    ) -> Votes:
        """Return the votes at a sigma; those of parts that are not there are made.

        Args:
            sigma: The standard deviation.
            make: Draws the votes of some images.
            images: Yields the images, as `chosen_images` does.
        """
        path = votes_path(self.folder, sigma)
        found = self._read(path)
        if found is None:
            found = Votes.joined(self._in_parts(path.stem, images, self._part, make))
            found.save(path)
        forget_parts(self.folder, path.stem)
        return found

    def find_distances(self, sigma: float, alpha: float) -> RobustnessIndex | None:
        """Return the distances of the attack at a sigma, if they are there."""
        path = attack_path(self.folder, sigma)
        return self._distances(path, self._clean.ids, alpha)

    def distances(
        self,
        sigma: float,
        attack: "SmoothedAttack",
        votes: Votes,
        images: Iterable[Images],
    ) -> RobustnessIndex:
        """Return the distances of the attack; those that are not there are made.

        Args:
            sigma: The standard deviation.
            attack: The attack.
            votes: The votes of all images.
            images: As in `votes`.
        """
        path = attack_path(self.folder, sigma)
        rows = {name: row for row, name in enumerate(votes.ids)}

        def make(some: Images) -> RobustnessIndex:
            ids = some[0].astype("S")
            own = Votes(*(column[[rows[i] for i in ids]] for column in votes))
            return attack(ids, some[1], own)

        def read(path: Path, ids: np.ndarray) -> RobustnessIndex | None:
            return self._distances(path, ids, attack.alpha)

        parts = self._in_parts(path.stem, images, read, make)
        columns = zip(*((p.ids, p.distances, p.found) for p in parts), strict=True)
        ids, distances, broken = map(np.concatenate, columns)
        found = RobustnessIndex(ids, distances, broken, parts[0].metadata)
        found.save(path)
        forget_parts(self.folder, path.stem)
        return found

    def _in_parts(
        self,
        name: str,
        images: Iterable[Images],
        read: Callable[[Path, np.ndarray], Kept | None],
        make: Callable[[Images], Kept],
    ) -> list[Kept]:
        parts: list[Kept] = []
        start = 0
        for some in images:
            path = self.folder / "parts" / name / f"part_{start:08d}.npz"
            part = read(path, some[0].astype("S"))
            if part is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                part = make(some)
                part.save(path)
            parts.append(part)
            start += len(some[0])
        return parts

    def _read(self, path: Path) -> Votes | None:
        """Return the votes of a set; None if it is absent, damaged or of others."""
        found = self._part(path, self._clean.ids)
        if found is None or not np.array_equal(found.labels, self._clean.labels):
            return None
        return found

    def _part(self, path: Path, ids: np.ndarray) -> Votes | None:
        try:
            found = Votes.load(path)
        except InputError:
            return None
        copies = found.selection[0].sum(), found.votes[0].sum()
        classes = found.votes.shape[1] == self._clean.logits.shape[1]
        same = np.array_equal(found.ids, ids) and copies == self._samples
        return found if same and classes else None

    def _distances(
        self, path: Path, ids: np.ndarray, alpha: float
    ) -> RobustnessIndex | None:
        try:
            found = RobustnessIndex.load(path)
        except InputError:
            return None
        same = np.array_equal(found.ids, ids)
        return found if same and found.metadata.get("alpha") == alpha else None


def votes_path(folder: str | Path, sigma: float) -> Path:
    """Return where the votes at a sigma lie."""
    return Path(folder) / f"sigma_{sigma:g}.npz"


def attack_path(folder: str | Path, sigma: float) -> Path:
    """Return where the distances of the attack at a sigma lie."""
    return Path(folder) / f"attack_{sigma:g}.npz"


def images_there(path: Path, count: int, samples: Sequence[int]) -> int:
    """Return of how many images there are votes or distances, by the files' names.

    Args:
        path: Where those of all images will lie; see `votes_path` and `attack_path`.
        count: The number of all images.
        samples: The two numbers of copies of an image.
    """
    if path.exists():
        return count
    parts = (path.parent / "parts" / path.stem).glob("part_*.npz")
    return min(count, images_of_a_part(samples) * len(list(parts)))


def images_of_a_part(samples: Sequence[int]) -> int:
    """Return how many images are worked on before what was found is kept.

    Example:
        >>> images_of_a_part((100, 1000))
        90
    """
    return max(1, _PART // sum(samples))


def sigmas_in(folder: str | Path) -> dict[float, Path]:
    """Return the files of votes in a folder by their sigma, damaged ones too.

    Raises:
        InputError: If one is named after no sigma.
    """
    found = {}
    for path in sorted(Path(folder).glob("sigma_*.npz")):
        text = path.stem.removeprefix("sigma_")
        try:
            (sigma,) = parse_sigmas([text])
        except InputError:
            sigma = float("nan")
        if votes_path(folder, sigma) != path:
            raise InputError(
                f"{path} is named after no standard deviation, such as "
                "sigma_0.25.npz; remove it"
            )
        found[sigma] = path
    return found


def spread(total: int, count: int) -> np.ndarray:
    """Return the positions of some of all images, at equal steps.

    Example:
        >>> spread(10, 4), spread(3, 500)
        (array([0, 2, 5, 7]), array([0, 1, 2]))
    """
    count = min(total, count)
    return np.arange(count) * total // count


def chosen_images(split: "Split", positions: np.ndarray, size: int) -> Iterator[Images]:
    """Yield ids, images and labels at some positions of a split, `size` at a time.

    Args:
        split: The split.
        positions: `(n,)`, ascending.
        size: How many images at a time; the last time there may be fewer.
    """
    start, held = 0, None
    for batch in split.batches(_READ).as_numpy_iterator():
        stop = start + len(batch[0])
        rows = positions[(start <= positions) & (positions < stop)] - start
        some = [column[rows] for column in batch]
        if held is not None:
            some = [np.concatenate(both) for both in zip(held, some, strict=True)]
        while len(some[0]) >= size:
            yield tuple(column[:size] for column in some)
            some = [column[size:] for column in some]
        start, held = stop, some
    if held is not None and len(held[0]):
        yield tuple(held)
