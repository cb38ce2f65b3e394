"""CleverHans is imported where it attacks, and nowhere else."""

from tests.helpers import start_source

CLEVERHANS = """
import sys, keras, numpy as np
from ar_adals_tf import attacks
from ar_adals_tf.evaluation import under_attack
from ar_adals_tf.reporting import page
model = keras.Sequential(
    [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
)
for name in ("cw", "ddn", "deepfool", "margin", "cleverhans_cw_l2"):
    settings = {"iterations": 1} if "cw" in name else {}
    attacks.prepare(name, model, **settings)(np.full((1, 2, 2, 1), 0.5, np.float32))
    print(name, any(module.startswith("cleverhans") for module in sys.modules))
"""


def test_cleverhans_is_imported_by_its_own_attack_alone(tmp_path):
    # In a process of its own: other tests import CleverHans here.
    ended = start_source(CLEVERHANS, tmp_path).end()
    assert ended.status == 0, ended.err[-2000:]
    assert ended.out.splitlines() == [
        "cw False",
        "ddn False",
        "deepfool False",
        "margin False",
        "cleverhans_cw_l2 True",
    ]
