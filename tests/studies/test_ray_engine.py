"""A study on a Ray cluster of two local nodes, one of which is killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.studies.ray_engine import _share
from benchmarks.breaking.compare import differences

STUDY = """
title = "Two nodes"
dataset = "fashion_mnist_small"
seeds = [0, 1]
images = { train = 200, validation = 200, test = 200 }

[settings]
limit_examples = 200
epochs = 8

[methods.vanilla]
flagfile = "fashion_mnist_small/vanilla.cfg"

[methods.ar_adals]
flagfile = "fashion_mnist_small/ar_adals.cfg"
attack = "margin"
num_levels = 4
seeds = [0]

[methods.ensemble_of_vanilla]
members = "vanilla"
"""

#: Two nodes with a core each; the one that has begun to train is lost.
ON_TWO_NODES = """
import sys, threading, time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from ar_adals_tf.studies.reproduction import reproduce

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
other = cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)

def lose():
    begun = Path("s/fashion_mnist_small-vanilla-1/history.csv")
    while not begun.exists():
        time.sleep(0.01)
    cluster.remove_node(other, allow_graceful=False)
    Path("lost").write_text(begun.read_text())

threading.Thread(target=lose, daemon=True).start()
sys.exit(reproduce("mine.toml", output_dir="s", engine="ray"))
"""


def run(folder, *command):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )


@pytest.mark.slow
def test_a_study_survives_the_loss_of_a_node_with_the_bits_of_one_machine(tmp_path):
    pytest.importorskip("ray")
    for name in ("ray", "local"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.toml").write_text(STUDY)
    lost = run(tmp_path / "ray", sys.executable, "-c", ON_TWO_NODES)
    assert lost.returncode == 0, lost.stderr[-3000:]
    assert (tmp_path / "ray" / "lost").exists()
    command = [sys.executable, "-m", "ar_adals_tf.reproduce", "--study=mine.toml"]
    local = run(tmp_path / "local", *command, "--output_dir=s")
    assert local.returncode == 0, local.stderr[-3000:]
    places = [tmp_path / name / "s" for name in ("ray", "local")]
    records = [json.loads(p.read_text()) for p in places[0].glob("cells/*.json")]
    assert max(record["starts"] for record in records) >= 2  # somebody was at work
    assert not differences(*places)


def test_a_cell_that_no_machine_has_room_for_is_refused():
    with pytest.raises(InputError, match="no machine .* has 2 GPUs and 1 processor"):
        _share([{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0}], gpus=2.0, cpus=1.0)
    assert _share([{"CPU": 8.0}], gpus=None, cpus=2.0) == {"GPU": 0.0, "CPU": 2.0}


def test_without_ray_a_sentence_says_how_to_get_it(tmp_path):
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "from ar_adals_tf.studies.reproduction import reproduce\n"
        "reproduce('smoke', output_dir='s', engine='ray')"
    )
    done = run(tmp_path, sys.executable, "-c", code)
    assert 'Ray is not installed; pip install "ar_adals_tf[ray]"' in done.stderr
