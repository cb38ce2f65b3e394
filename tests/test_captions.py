"""The picture files of a run say what to see."""

import numpy as np

from ar_adals_tf import captions
from ar_adals_tf.evaluation.measures import measure
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.results import write_results
from ar_adals_tf.figures import style
from ar_adals_tf.robustness import RobustnessIndex
from tests.helpers import add_index, make_run


def test_every_picture_of_a_run_has_its_caption(tmp_path, monkeypatch):
    saved = {}

    def save(figure, path, dpi=160, *, caption=""):
        saved[path.name] = caption

    monkeypatch.setattr(style, "save", save)
    run = make_run(tmp_path / "run", types=None)
    add_index(run)
    index = RobustnessIndex.load(run / "robustness" / "cw" / "test.npz")
    predictions = Predictions.load(run / "predictions.npz")
    metrics = measure(predictions, 15, index)
    write_results(run, predictions, metrics, "Vanilla", np.full((3, 10), 0.9))
    assert saved == {
        "reliability.png": captions.RELIABILITY_DIAGRAM,
        "levels.png": captions.LEVELS,
        "soft_labels.png": captions.SOFT_LABELS,
    }
