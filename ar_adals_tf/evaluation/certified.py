"""Certificates of the smoothed classifier, and how well its confidence is calibrated.

The smoothed classifier is another one than the model: it answers by the votes of noisy
copies. Its certificates are about itself. So are its accuracy and its ECE, which stand
beside those of the plain model on the same images.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from ar_adals_tf.calibration.measures import DEFAULT_NUM_BINS
from ar_adals_tf.certification.certifying import Certifying
from ar_adals_tf.certification.drawing import NoisyCopies
from ar_adals_tf.certification.radius import (
    ABSTAINS,
    Certificates,
    certified,
    certify,
    largest_radius,
    radius_grid,
    two_sided,
)
from ar_adals_tf.certification.votes import Votes
from ar_adals_tf.datasets.splits import Split
from ar_adals_tf.evaluation.measures import Measures, summary
from ar_adals_tf.evaluation.predictions import Predictions, seen_images
from ar_adals_tf.evaluation.results import describe_measures
from ar_adals_tf.evaluation.smoothed_attack import SmoothedAttack, summary_of
from ar_adals_tf.evaluation.vote_store import (
    Images,
    VoteStore,
    chosen_images,
    images_of_a_part,
    spread,
)
from ar_adals_tf.process.progress import progress_bar


def evaluate_certified(
    models: Sequence[keras.Model],
    split: Split,
    clean: Predictions,
    folder: str | Path,
    how: Certifying,
    *,
    num_bins: int = DEFAULT_NUM_BINS,
    seed: int = 0,
    identity: str = "",
    batch_size: int | None = None,
    served: Callable[[np.ndarray], np.ndarray] | None = None,
    verbose: bool = True,
) -> Measures:
    """Certify test images, and measure the calibration of the smoothed classifier.

    Votes are kept part by part, see `VoteStore`: an interrupted evaluation goes on.
    Sigmas whose votes lie in the folder already are measured as well.

    Args:
        models: A classifier of inputs in [0, 1], or several, whose averaged
            probabilities vote.
        split: The clean test set.
        clean: The predictions on it.
        folder: Where the votes go, a file `sigma_<sigma>.npz` each.
        how: Noise, copies, chance of an error, and images.
        num_bins: Bins of the ECE. Defaults to 15.
        seed: Seed of the noise. Defaults to 0.
        identity: What tells this model from others, such as a digest.
        batch_size: About how many copies each replica has at once. Defaults to what
            suits the model and the device.
        served: In the place of models, a function from images to logits, both arrays.
        verbose: Whether to show a progress bar.

    Returns:
        `num_examples`, `seed`, `num_bins`, `alpha`, `samples` (the two numbers of
        copies), `plain` (the measures of the plain model on these images, see
        `measures.summary`) and `by_sigma`: sigma as text, then `abstained`, the share
        of images without an answer; `average_radius`, of 0 where the answer is wrong;
        `by_radius`: radius as text, then `accuracy`, the share of images that are right
        and certified as far, and `interval`, its 95 % interval over images; `mean` and
        `votes`, the measures of the smoothed classifier with the mean probabilities of
        the copies and with their shares of the votes as its confidence. All images
        count there, also those on which it abstains. With an attack also `attack`, see
        `smoothed_attack.summary_of`.

    Raises:
        InputError: If the votes in the folder have another name than a sigma's.
        NotFiniteError: If the model's output for a copy is not finite.
    """
    positions = spread(len(split), how.images)
    clean = Predictions(*(column[positions] for column in clean))
    samples = how.selection_samples, how.samples
    size = images_of_a_part(samples)
    facts = {"num_examples": len(positions), "seed": seed, "samples": list(samples)}
    settings = facts | {"dataset": split.dataset, "model": identity}
    settings["images"] = seen_images(split)
    store = VoteStore(folder, settings, clean, samples)
    copies = NoisyCopies(models, clean.logits.shape[1], served, batch_size)
    there = store.sigmas()

    def images(bar: tqdm, units: int) -> Iterator[Images]:
        done = bar.n
        for some in chosen_images(split, positions, size):
            yield some
            done += units * len(some[0])
            bar.update(done - bar.n)  # a part that was there has not moved it

    found, each = {}, len(positions) * sum(samples)
    total = each * len(set(how.sigmas) - set(there))
    title = f"certifying {split.dataset} {split.name}"
    with progress_bar(total, title, "copy", show=verbose and bool(total)) as bar:
        for sigma in sorted({*there, *how.sigmas}):

            def draw(some: Images, sigma: float = sigma) -> Votes:
                return copies(*some, sigma, samples, seed, bar.update)

            found[sigma] = store.votes(sigma, draw, images(bar, sum(samples)))
    by_sigma = {}
    for sigma, votes in found.items():
        answers = certify(votes.selection, votes.votes, sigma, how.alpha)
        own = _measure(votes, answers, sigma, how.alpha, num_bins)
        distances = store.find_distances(sigma, how.alpha)
        if distances is None and how.attack and sigma in how.sigmas:
            attack = SmoothedAttack(models, copies, sigma, how.alpha, seed)
            title = f"attacking {split.dataset} {split.name} under noise of {sigma:g}"
            with progress_bar(len(positions), title, show=verbose) as bar:
                distances = store.distances(sigma, attack, votes, images(bar, 1))
        if distances is not None:
            own["attack"] = summary_of(answers, distances)
        by_sigma[f"{sigma:g}"] = own
    return {
        **facts,
        "num_bins": num_bins,
        "alpha": how.alpha,
        "plain": summary(clean.labels, clean.probabilities, num_bins),
        "by_sigma": by_sigma,
    }


def describe_certified(found: Mapping[str, Any]) -> str:
    """Return what `evaluate_certified` found, two lines for each sigma."""
    lines = []
    for sigma, own in found["by_sigma"].items():
        far = ", ".join(
            f"{one['accuracy']:.1%} at radius {radius}"
            for radius, one in own["by_radius"].items()
        )
        number = f"{found['num_examples']:,} images, {found['samples'][1]:,} votes each"
        lines.append(
            f"smoothed by noise of {sigma} ({number}): certified accuracy {far}; no "
            f"answer on {own['abstained']:.1%}".replace("%", " %")
        )
        lines.append(f"its mean probabilities: {describe_measures(own['mean'])}")
        if attack := own.get("attack"):
            lines.append(
                f"attacked: {attack['broken']} of {attack['answered']} answers changed,"
                f" {attack['above']} of them within their certified radius"
            )
    plain = describe_measures(found["plain"])
    lines.append(f"without noise, on the same images: {plain}")
    return "\n".join(lines)


def _measure(
    votes: Votes, found: Certificates, sigma: float, alpha: float, num_bins: int
) -> Measures:
    """Return the measures at one sigma."""
    count = len(votes.labels)
    by_radius = {}
    for radius in radius_grid(largest_radius(sigma, votes.votes[0].sum(), alpha)):
        number = int(certified(votes.labels, found, radius).sum())
        ends = list(two_sided(number, count))
        by_radius[f"{radius:g}"] = {"accuracy": number / count, "interval": ends}
    right = found.classes == votes.labels
    return {
        "abstained": float(np.mean(found.classes == ABSTAINS)),
        "average_radius": float(np.mean(found.radii * right)),
        "by_radius": by_radius,
        "mean": summary(votes.labels, votes.probabilities, num_bins),
        "votes": summary(votes.labels, votes.shares(), num_bins),
    }
