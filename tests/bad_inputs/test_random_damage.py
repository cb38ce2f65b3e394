"""Random damages of a run's files: what is not refused with a sentence can be used."""

import copy
import json
import math
import random
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.measures import saved_temperature
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.results import describe_run, read_metrics
from ar_adals_tf.evaluation.shift import describe_shift
from ar_adals_tf.evaluation.under_attack import describe_attacks
from ar_adals_tf.experiment.runs import member_folders, saved_config
from ar_adals_tf.forms.run_files import read_history
from ar_adals_tf.reading import parse_json, read_json
from ar_adals_tf.reporting import attack_tables, further, layout, paper_tables
from ar_adals_tf.reporting.collection import load_collections
from ar_adals_tf.robustness import RobustnessIndex
from tests.helpers import add_index, make_run
from tests.reporting.attack_runs import attack_run

TABLES = (
    paper_tables.overview,
    paper_tables.table_2_clean_and_under_shift,
    paper_tables.table_3_variance_under_shift,
    paper_tables.table_4_error_under_shift,
    further.more_measures,
    further.ood_scores,
    attack_tables.under_attack,
    attack_tables.costs,
)
HISTORY = "epoch,learning_rate,loss,p/0,eps/0,conf/0,acc/0\n0,0.1,2.5,1.0,0.0,0.9,0.7\n"

quick = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

#: Any JSON, more often what damaged or foreign files have.
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, -1, 15, 10**30, 0.5, 1e308, 5e-324, math.nan, math.inf])
    | st.sampled_from(["", "word", "0.5", "fog", "1", "../..", "a\0b", "\ud800", "$^{"])
)
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A made-up run that is measured on everything, with its vanilla model's index."""
    folder = tmp_path_factory.mktemp("damaged") / "run"
    attack_run(folder, temperature=1.5, types=("contrast", "fog"), ood="cifar100")
    add_index(folder)
    (folder / "history.csv").write_text(HISTORY)
    return folder


@pytest.fixture
def damaged(run, tmp_path):
    """A copy of it."""
    return shutil.copytree(run, tmp_path / "run")


def places(content, place=()):
    """Return the places of all values in JSON, as tuples of names and positions."""
    yield place
    if isinstance(content, dict):
        for name, inner in content.items():
            yield from places(inner, (*place, name))
    if isinstance(content, list):
        for position, inner in enumerate(content):
            yield from places(inner, (*place, position))


def changed(content, place, value, remove):
    """Return JSON in which a value is replaced, or removed with its name."""
    if not place:
        return value
    content = copy.deepcopy(content)
    inner = content
    for one in place[:-1]:
        inner = inner[one]
    if remove:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return content


def use(run):
    """Do with a run what evaluate and report do, but for models and pictures."""
    config = saved_config(run)
    if config.ensemble_size < 100:
        member_folders(config, run)
    assert config.title and config.name and config.vanilla()
    assert saved_temperature(run) > 0
    metrics = read_metrics(run)
    describe_run(config.title, metrics)
    if "shift" in metrics:
        describe_shift({"source": "", "num_bins": 15} | metrics["shift"])
    if "attacks" in metrics:
        describe_attacks(metrics["attacks"])
    collections = load_collections([run])
    layout._lead(collections)
    for collection in collections:
        for table in TABLES:
            table(collection)
        if collection.runs_under_attack:
            attack_tables.by_strength(collection)
    paper_tables.table_1_networks(collections)


def test_the_run_can_be_used(run):
    use(run)


@quick
@given(data=st.data())
@pytest.mark.parametrize("name", ["config", "metrics", "temperature"])
def test_json_with_a_random_value_is_used_or_refused(name, data, run, damaged):
    content = json.loads((run / f"{name}.json").read_text())
    # A place in the upper levels is drawn as often as one of the many deep ones.
    by_depth = {}
    for place in places(content):
        by_depth.setdefault(len(place), []).append(place)
    depth = data.draw(st.sampled_from(sorted(by_depth)))
    place = data.draw(st.sampled_from(by_depth[depth]))
    new = changed(content, place, data.draw(ANY_JSON), data.draw(st.booleans()))
    (damaged / f"{name}.json").write_text(json.dumps(new))
    try:
        use(damaged)
    except InputError as error:
        assert "\n" not in str(error)


@quick
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
@example(b"\xef\xbb\xbf{}")
@example(b'{"a": 1, "a": 2}')
@example(b"[" * 10_000)
@example(b"1" * 10_000)
@example(b"-Infinity")
def test_random_bytes_are_json_or_refused(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    try:
        found = read_json(path)
    except InputError as error:
        assert "a.json is not valid JSON" in str(error)
    else:
        again = parse_json(json.dumps(found))
        assert again == found or "NaN" in json.dumps(found)


def flipped(content, seed):
    """Return content with random bytes changed, or cut, or a part left out."""
    draw, content = random.Random(seed), bytearray(content)
    start = draw.randrange(len(content))
    kind = draw.choice(["flip", "cut", "zeros", "lost", "copied"])
    if kind == "flip":
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        return bytes(content)
    end = start + draw.randint(1, 100)
    part = {"zeros": bytes(len(content[start:end])), "copied": 2 * content[start:end]}
    rest = b"" if kind == "cut" else content[end:]
    return bytes(content[:start] + part.get(kind, b"") + rest)


@pytest.mark.parametrize(
    ("file", "load", "seeds"),
    [
        ("history.csv", read_history, 300),
        ("shift/fog_1.npz", Predictions.load, 150),
        ("predictions.npz", Predictions.load, 150),
        ("robustness/cw/test.npz", RobustnessIndex.load, 150),
    ],
)
def test_random_damage_of_tables_and_arrays_is_refused_or_harmless(
    file, load, seeds, run, damaged
):
    """What is read all the same has the form that the file must have."""
    whole = (run / file).read_bytes()
    read = 0
    for seed in range(seeds):
        (damaged / file).write_bytes(flipped(whole, seed))
        try:
            found = load(damaged / file)
        except InputError as error:
            assert file.split("/")[-1] in str(error) and "\n" not in str(error)
            continue
        read += 1
        if isinstance(found, Predictions):
            assert np.isfinite(found.logits).all()
            assert found.logits.shape == (len(found.ids), 10)
    assert read < seeds


def test_a_made_up_run_of_each_method_is_accepted(tmp_path):
    """The forms are not narrower than what is written."""
    for method in ("ls", "adals", "ar_adals"):
        use(make_run(tmp_path / method, method, temperature=0.5))
