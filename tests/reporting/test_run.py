"""A run is read from its folder, and its method told from its settings."""

from pathlib import Path

import numpy as np
import pytest

from ar_adals_tf.experiment.settings import DECLARATIONS, GROUP_SETTINGS
from ar_adals_tf.reporting.names import method_label
from ar_adals_tf.reporting.run import Run
from tests.helpers import make_run, stored
from tests.reporting.attack_runs import attack_run


@pytest.mark.parametrize(
    ("config", "method", "label"),
    [
        (
            {"method": "fgsm_at", "adversarial_training": "fgsm_at"},
            "fgsm_at",
            "FGSM training",
        ),
        (
            {"method": "ar_adals", "adversarial_training": "pgd_at"},
            "ar_adals+pgd_at",
            "AR-AdaLS + PGD training",
        ),
        (
            {"method": "ls", "adversarial_training": "trades", "ensemble_size": 5},
            "ensemble_of_ls+trades",
            "Ensemble of Label smoothing + TRADES",
        ),
    ],
)
def test_adversarial_training_is_told_apart(config, method, label):
    run = Run(Path(), config, {}, None, None)
    assert run.method == method
    assert method_label(method) == label


def test_stored_predictions_are_read_by_what_they_are(tmp_path):
    folder = attack_run(tmp_path / "run", ood="svhn_cropped", types=("fog",))
    run = Run.load(folder)
    for predictions, where in (
        (run.predictions, (folder,)),
        (run.under_shift("fog", 3), (folder / "shift", "fog_3")),
        (run.out_of_distribution("svhn_cropped"), (folder / "ood", "svhn_cropped")),
        (run.under_attack("pgd", 8.0), (folder / "attacked", "pgd_8")),
        (run.under_attack("pgd", 0.0), (folder,)),
    ):
        expected = stored(*where)[1]
        np.testing.assert_allclose(predictions.probabilities, expected, rtol=1e-5)


def test_a_run_without_attacks_has_no_measures_of_them(tmp_path):
    run = Run.load(make_run(tmp_path / "run", types=None))
    assert run.attack_measures() == {} == run.attack_measures(scaled=True)


def test_a_group_shares_all_settings_but_seed_and_folders():
    free = {"seed", "output_dir", "vanilla_dir", "data_dir", "tensorboard", "verbose"}
    assert set(DECLARATIONS) - set(GROUP_SETTINGS) == free
