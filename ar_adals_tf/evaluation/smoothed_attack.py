"""An attack on the smoothed classifier: a distance at which its answer is another one.

A certificate says how long a change must be at least, the attack how long one is that
changes the answer. Both are about the smoothed classifier, so the certificate must lie
below. The distance of the plain model is another matter: neither order is certain.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from ar_adals_tf.attacks import prepare
from ar_adals_tf.attacks.device import default_batch_size
from ar_adals_tf.certification.drawing import NoisyCopies
from ar_adals_tf.certification.noisy_model import noisy_model
from ar_adals_tf.certification.radius import ABSTAINS, Certificates, certify
from ar_adals_tf.certification.votes import Votes
from ar_adals_tf.evaluation.measures import Measures
from ar_adals_tf.robustness import RobustnessIndex

COPIES, STEPS = 16, 100

"""Noisy copies whose mean is attacked, and steps of the attack, DDN."""

OVERSHOOTS = (0.0, 0.15, 0.3, 0.6, 1.0, 2.0)

"""How far beyond the attack's image an answer is tried, in units of sigma."""

#: Copies that tell the answer at a moved image: to choose a class, and to count.
_TOLD_BY = (100, 1000)


class SmoothedAttack:
    """DDN on mean probabilities, each result confirmed by the votes of fresh noise.

    A moved image counts if the votes answer another class there; see `certify`. The
    attack ends where two classes are equally likely, so the image is moved on in the
    same direction until they do.

    Args:
        models: What is smoothed; several are an ensemble.
        copies: The same, as it votes.
        sigma: The standard deviation of the noise.
        alpha: The chance, at most, that the votes answer wrongly.
        seed: The seed of the votes that are attacked; those that confirm have the next.
    """

    def __init__(
        self,
        models: Sequence[keras.Model],
        copies: NoisyCopies,
        sigma: float,
        alpha: float,
        seed: int,
    ) -> None:
        self._copies, self._sigma, self.alpha = copies, sigma, alpha
        self._seed = seed + 1
        size = max(1, default_batch_size(models[0]) // (COPIES * len(models)))
        self._attack = prepare(
            "ddn",
            noisy_model(models, sigma, COPIES, self._seed),
            steps=STEPS,
            batch_size=size,
            from_logits=True,
        )

    def __call__(
        self, ids: np.ndarray, images: np.ndarray, votes: Votes
    ) -> RobustnessIndex:
        """Return the distances of images, infinite where no change was found.

        So it is where the smoothed classifier abstains, and there is nothing to change.

        Args:
            ids: `(N,)`.
            images: float32 `(N, ...)` in [0, 1].
            votes: Those of these images.
        """
        answers = certify(votes.selection, votes.votes, self._sigma, self.alpha)
        distances = np.full(len(ids), np.inf, np.float32)
        left = np.flatnonzero(answers.classes != ABSTAINS)
        if len(left):
            result = self._attack(images[left], answers.classes[left])
            way = _flat(result.adversarial) - _flat(images[left])
            length = np.linalg.norm(way, axis=1)
            known = result.found & (length > 0)
            left, way, length = left[known], way[known], length[known]
        for more in OVERSHOOTS:
            if not len(left):
                break
            start = _flat(images[left])
            moved = start + way * (1 + more * self._sigma / length)[:, None]
            moved = np.clip(moved, 0, 1).astype(np.float32)
            other = self._answers(ids[left], moved.reshape(-1, *images.shape[1:]))
            broken = (other != ABSTAINS) & (other != answers.classes[left])
            far = np.linalg.norm(moved.astype(np.float64) - start, axis=1)
            distances[left[broken]] = far[broken]
            left, way, length = left[~broken], way[~broken], length[~broken]
        about = {"attack": "ddn", "alpha": self.alpha}
        found = np.isfinite(distances)
        return RobustnessIndex(ids.astype("S"), distances, found, about)

    def _answers(self, ids: np.ndarray, moved: np.ndarray) -> np.ndarray:
        none = np.zeros(len(ids), np.int64)
        votes = self._copies(ids, moved, none, self._sigma, _TOLD_BY, self._seed)
        found = certify(votes.selection, votes.votes, self._sigma, self.alpha)
        return found.classes


def summary_of(answers: Certificates, found: RobustnessIndex) -> Measures:
    """Return how certificates and distances of the same images compare.

    Returns:
        `attack`, `copies`, `steps`; `answered`, how many images have an answer;
        `broken`, how many of these the attack changed; `above`, on how many the
        certificate is longer than the change, which chance allows on a few: each vote
        is wrong with a probability of alpha at most, and an image has a vote for its
        certificate and one for each length that was tried; and of the images that it
        changed `median_radius` and `median_distance`, None if
        there are none.
    """
    broken = found.found
    radii, distances = answers.radii[broken], found.distances[broken]
    return {
        "attack": "ddn",
        "copies": COPIES,
        "steps": STEPS,
        "answered": int(np.sum(answers.classes != ABSTAINS)),
        "broken": int(broken.sum()),
        "above": int(np.sum(radii > distances)),
        "median_radius": _median(radii),
        "median_distance": _median(distances),
    }


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None


def _flat(images: Any) -> np.ndarray:
    return np.asarray(images, np.float64).reshape(len(images), -1)
