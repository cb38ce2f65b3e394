"""What a run directory holds, for whoever goes on with it."""

import hashlib
from pathlib import Path

from ar_adals_tf import evaluation, training
from ar_adals_tf.files import read_json
from ar_adals_tf.shift import Predict


def predictor(run: str | Path) -> Predict:
    """Return what predicts splits as a run does."""
    return evaluation.Predictor(training.load_model(Path(run) / "model.keras"))


def temperature(run: str | Path) -> float | None:
    """Return the temperature that was fitted to a run's validation set, if any."""
    path = Path(run) / "temperature.json"
    return float(read_json(path)["temperature"]) if path.exists() else None


def digest(path: str | Path) -> str:
    """Return a short digest of a model file, or of all models of a run directory."""
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.glob("**/model.keras"))
    total = hashlib.sha256()
    for file in files:
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:16]
