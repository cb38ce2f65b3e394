"""What a report shows of randomised smoothing: certificates and calibration."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ar_adals_tf import calibration, figures
from ar_adals_tf.calibration.bootstrap import ImageScores
from ar_adals_tf.certification.radius import (
    Certificates,
    certified,
    certify,
    largest_radius,
    radius_grid,
    two_sided,
)
from ar_adals_tf.certification.votes import Votes
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.runs import paths_of_test_indexes
from ar_adals_tf.figures.uncertain import Uncertain
from ar_adals_tf.reporting import commands
from ar_adals_tf.reporting.certainty import AS_ABOVE_WORDS, SHIFT_DRAWS, Sample
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.group import Group, labels_of, seed_words
from ar_adals_tf.reporting.items import (
    MEASURES,
    Cell,
    Column,
    Item,
    Missing,
    Picture,
    Row,
    Table,
    cell_of,
    floor_cell,
    measures,
)
from ar_adals_tf.reporting.run import Run
from ar_adals_tf.robustness import RobustnessIndex

_ACCURACY = MEASURES["accuracy"]

#: Attacks that estimate a distance and change no image.
_ESTIMATES = ("margin",)


@dataclass(frozen=True)
class _Case:
    """The runs of a group that are certified at one sigma."""

    group: Group
    sigma: float
    runs: tuple[Run, ...]

    @property
    def found(self) -> list[dict[str, Any]]:
        """What `metrics.json` has of each run at this sigma."""
        return [
            r.metrics["certified"]["by_sigma"][f"{self.sigma:g}"] for r in self.runs
        ]

    @property
    def label(self) -> str:
        return f"{self.group.label}, sigma {self.sigma:g}"

    @property
    def kind(self) -> str:
        """What competes with it: the same kind of model at the same sigma."""
        return f"{self.group.kind} {self.sigma:g}"

    @property
    def alpha(self) -> float:
        return float(self.runs[0].metrics["certified"]["alpha"])

    @property
    def largest(self) -> float:
        """The largest radius that can be certified."""
        samples = self.runs[0].metrics["certified"]["samples"][1]
        return largest_radius(self.sigma, samples, self.alpha)

    @cached_property
    def votes(self) -> list[Votes]:
        """The stored votes of each run; none if those of a run are lost."""
        name = f"sigma_{self.sigma:g}"
        if any(name in run.lost["certified"] for run in self.runs):
            return []
        return [run.votes(self.sigma) for run in self.runs]

    @cached_property
    def answers(self) -> list[Certificates]:
        return [
            certify(v.selection, v.votes, self.sigma, self.alpha) for v in self.votes
        ]

    def certified(self, radius: float) -> list[np.ndarray]:
        """Return which images of each run are right and certified as far."""
        pairs = zip(self.votes, self.answers, strict=True)
        return [certified(votes.labels, own, radius) for votes, own in pairs]

    def sample(self, scores: Sequence[ImageScores]) -> Sample | None:
        """Return the runs' images, resampled; None without the stored votes."""
        if not scores:
            return None
        seeds = tuple(run.config["seed"] for run in self.runs)
        runs = [[one] for one in scores]
        return Sample.of(seeds, runs, self.group.num_bins, SHIFT_DRAWS)

    def at(self, radius: float) -> Cell:
        """Return the certified accuracy at a radius."""
        if radius > self.largest:  # 0 for any images, so there is no interval
            return _ACCURACY.cell([{"accuracy": 0.0} for _ in self.runs])
        if self.votes:
            each = self.certified(radius)
            sample = self.sample([_as_scores(right) for right in each])
            found = [{"accuracy": float(right.mean())} for right in each]
            return _ACCURACY.cell(found, sample=sample)
        stored = [own["by_radius"].get(f"{radius:g}") for own in self.found]
        return _ACCURACY.cell(stored) if all(stored) else Cell()

    def probabilities(self, kind: str) -> list[np.ndarray]:
        """Return those of `plain`, `mean` or `votes` of each run with stored votes."""
        if kind == "mean":
            return [votes.probabilities for votes in self.votes]
        if kind == "votes":
            return [votes.shares() for votes in self.votes]
        pairs = zip(self.runs, self.votes, strict=True) if self.votes else ()
        return [run.predictions.probabilities[_rows(run, v)] for run, v in pairs]

    def measured(self, kind: str) -> tuple[list[dict[str, Any]], Sample | None]:
        """Return the measures of the probabilities of a kind, and their sample."""
        found = self.found
        stored = [own[kind] for own in found] if kind != "plain" else []
        stored = stored or [run.metrics["certified"]["plain"] for run in self.runs]
        each = zip(self.votes, self.probabilities(kind), strict=True)
        return stored, self.sample(
            [calibration.image_scores(votes.labels, p) for votes, p in each]
        )


def certificates(collection: Collection) -> list[Item]:
    """Return tables and pictures of the runs that were certified."""
    cases = _cases(collection)
    if not cases:
        return []
    return [
        certified_accuracy(collection, cases),
        smoothed_calibration(collection, cases),
        over_radius(collection, cases),
        *beside_attacks(collection, cases),
    ]


def certified_accuracy(collection: Collection, cases: Sequence[_Case]) -> Table:
    """Return the accuracy that is certified at each radius."""
    radii = radius_grid(max(case.largest for case in cases))
    rows = []
    for case in cases:
        cells = [case.at(radius) for radius in radii]
        cells.append(cell_of([100 * own["abstained"] for own in case.found]))
        cells.append(cell_of([own["average_radius"] for own in case.found]))
        rows.append(Row(case.label, cells, kind=case.kind))
    columns = [_ACCURACY.column(f"Radius {radius:g}") for radius in radii]
    columns += [Column("No answer (%)", 1), Column("Mean radius", 3)]
    groups = [case.group for case in cases]
    return Table(
        f"certified_{collection.dataset}",
        f"Certified accuracy (%) by L2 radius, {collection.title}",
        "The share of images on which the smoothed classifier is right and provably "
        "stays right under every change up to the radius (pixels in [0, 1]). It "
        f"answers by the votes of noisy copies (Cohen et al., 2019): {_how(cases[0])}. "
        "It gives no answer where it is not certain which class has most votes. Mean "
        f"radius: wrong answers count as 0. {seed_words(groups)} {AS_ABOVE_WORDS}",
        columns,
        rows,
        _missing(collection, cases),
        head="Method, noise",
    )


def smoothed_calibration(collection: Collection, cases: Sequence[_Case]) -> Table:
    """Return accuracy, ECE and NLL of the smoothed classifier and of the plain one."""
    accuracy, ece, nll = measures("accuracy", "ece", "nll")
    rows = []
    for case in cases:
        plain, mean, votes = map(case.measured, ("plain", "mean", "votes"))
        cells = [
            *(accuracy.cell(own[0], sample=own[1]) for own in (plain, mean)),
            *(ece.cell(own[0], sample=own[1]) for own in (plain, mean)),
            floor_cell(mean[1]),
            ece.cell(votes[0], sample=votes[1]),
            *(nll.cell(own[0], sample=own[1]) for own in (plain, mean)),
        ]
        rows.append(Row(case.label, cells, kind=case.kind))
    return Table(
        f"smoothed_{collection.dataset}",
        f"Calibration of the smoothed classifier, {collection.title}",
        "Plain: the model itself. Smoothed: the confidence is the mean predicted "
        "probability over the noisy copies. Votes: the confidence is the share of the "
        "copies that predict the class. All columns are on the same images, including "
        f"those without an answer, and without a temperature. {AS_ABOVE_WORDS}",
        [
            accuracy.column("Accuracy (%), plain"),
            accuracy.column("Accuracy (%), smoothed"),
            ece.column("ECE (%), plain"),
            ece.column("ECE (%), smoothed"),
            Column("Floor of the smoothed ECE (%)"),
            ece.column("ECE (%), votes"),
            nll.column("NLL (nats), plain"),
            nll.column("NLL (nats), smoothed"),
        ],
        rows,
        head="Method, noise",
    )


def over_radius(collection: Collection, cases: Sequence[_Case]) -> Picture:
    """Draw the certified accuracy over the radius, a panel for each sigma."""
    measure = "Certified accuracy (%)"
    lines: dict[str, dict[str, Any]] = {}
    errors: dict[str, dict[str, Uncertain]] = {}
    for case in (case for case in cases if case.votes):
        panel, key = f"sigma {case.sigma:g}", case.group.key
        grid = radius_grid(case.largest)
        fine = np.linspace(0, grid[-1], 5 * (len(grid) - 1) + 1).round(12)
        right = np.array([case.certified(r) for r in fine])  # radii, runs, images
        mean = 100 * right.mean(axis=(1, 2))
        lines.setdefault(panel, {})[key] = fine, mean
        if right.shape[1] == 1:
            counts = right.sum(axis=(1, 2))
            ends = 100 * np.array([two_sided(int(n), right.shape[2]) for n in counts])
            errors.setdefault(panel, {})[key] = Uncertain(mean, *ends.T)
    return Picture(
        f"over_radius_{collection.dataset}",
        f"Certified accuracy over the radius, {collection.title}",
        "At radius 0: the share of images that the smoothed classifier answers, and "
        "answers right. A curve ends at the largest radius that this number of copies "
        "can certify, if all of them agree. More noise certifies larger radii and "
        "costs accuracy. Means over seeds. Error bars, for single runs: "
        "Clopper-Pearson 95 % confidence intervals over images.",
        figures.draw_grid_of_lines(
            {measure: lines},
            "Radius (L2, in [0, 1] pixels)",
            labels_of(case.group for case in cases),
            {measure: errors},
        )
        if lines
        else None,
        methods=_labels(cases),
    )


_SMOOTHED, _PLAIN = "Attack on the smoothed", "Attack on the plain model"


def beside_attacks(collection: Collection, cases: Sequence[_Case]) -> list[Picture]:
    """Draw certified radii beside the distances of attacks, image by image."""
    panels: dict[str, dict[str, dict[str, Any]]] = {}
    above = total = 0
    for case in (case for case in cases if case.votes):
        run, votes, answers = case.runs[0], case.votes[0], case.answers[0]
        row = panels.setdefault(f"sigma {case.sigma:g}", {_SMOOTHED: {}, _PLAIN: {}})
        known = {_SMOOTHED: run.smoothed_distances(case.sigma)}
        known[_PLAIN] = _plain_distances(run)
        for column, index in known.items():
            if index is None:
                continue
            try:
                distances = index.distances[index.aligned(votes.ids)]
            except InputError:  # of some of the images alone
                continue
            there = np.isfinite(distances) & (answers.classes >= 0)
            if there.any():
                row[column][case.group.key] = distances[there], answers.radii[there]
            if column == _SMOOTHED:
                total += int(there.sum())
                above += int((answers.radii > distances)[there].sum())
    panels = {
        title: kept
        for title, row in panels.items()
        if (kept := {column: own for column, own in row.items() if own})
    }
    if not panels:
        return []
    words = (
        "One mark per image, for the first run of each method. A certificate says that "
        "no shorter change alters the answer; an attack finds a change that does. "
    )
    if total:
        words += (
            "Attack on the smoothed classifier (DDN on mean probabilities, confirmed "
            "by votes): it attacks the classifier that the certificate is for, so "
            "marks lie below the diagonal, except for rare errors of the certificate; "
            f"{above} of {total:,} do not. "
        )
    if any(_PLAIN in row for row in panels.values()):
        words += (
            "Attack on the plain model, from its robustness index: the certificate is "
            "for the smoothed classifier, so a mark may lie on either side. "
        )
    return [
        Picture(
            f"certificates_{collection.dataset}",
            f"Certified radius and attack, {collection.title}",
            f"{words}Images that no attack changed are left out.",
            figures.draw_certificates(panels, labels_of(case.group for case in cases)),
            methods=_labels(cases),
        )
    ]


def _labels(cases: Sequence[_Case]) -> tuple[str, ...]:
    return tuple(labels_of(case.group for case in cases).values())


def _cases(collection: Collection) -> list[_Case]:
    """Return what was certified, by sigma, then by method."""
    sigmas = {float(s) for run in collection.runs for s in run.certified}
    return [
        _Case(group, sigma, runs)
        for sigma in sorted(sigmas)
        for group in collection.groups
        if (runs := tuple(r for r in group.runs if f"{sigma:g}" in r.certified))
    ]


def _missing(collection: Collection, cases: Sequence[_Case]) -> list[Missing]:
    """Return what is missing where runs lack a sigma, or their votes are lost."""
    sigmas = sorted({f"{case.sigma:g}" for case in cases}, key=float)
    lacking = [
        run
        for run in collection.runs
        if set(sigmas) - set(run.certified) or run.lost["certified"]
    ]
    flags = commands.certify_flags(cases[0].runs[0].metrics["certified"], sigmas)
    words = "are not wholly certified"
    return commands.missing_evaluation(collection, lacking, words, *flags)


def _how(case: _Case) -> str:
    found = case.runs[0].metrics["certified"]
    selection, samples = found["samples"]
    return (
        f"{found['num_examples']:,} images, {selection:,} copies to choose a class and "
        f"{samples:,} to bound its share, wrong with a probability of at most "
        f"{found['alpha']:g} per image"
    )


def _as_scores(right: np.ndarray) -> ImageScores:
    """Return what is right as predictions that are sure, to resample their accuracy."""
    sure, none = np.ones(len(right)), np.zeros(len(right))
    return ImageScores(sure, right, none, none)


def _rows(run: Run, votes: Votes) -> np.ndarray:
    """Return where the images of some votes stand among a run's test images."""
    rows = {name: row for row, name in enumerate(run.predictions.ids)}
    return np.array([rows[name] for name in votes.ids])


def _plain_distances(run: Run) -> RobustnessIndex | None:
    """Return an index of the test images under the run's own model, if there is one."""
    digests = run.metrics.get("digests", {})
    if "model" not in digests or "images" not in digests:
        return None
    for path in paths_of_test_indexes(run.folder):
        try:
            index = RobustnessIndex.load(path)
            index.verify(model_digest=digests["model"], digest=digests["images"])
        except InputError:
            continue
        if index.metadata.get("attack") not in _ESTIMATES:
            return index
    return None
