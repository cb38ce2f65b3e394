"""The settings in a `config.json` are checked as they are declared."""

import json

import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.saved import config_of, saved_settings
from ar_adals_tf.experiment.settings import DECLARATIONS

SAVED = Config.make("fashion_mnist_small", "ar_adals", refresh_epochs=[1]).as_dict()


def write(folder, **changes):
    (folder / "config.json").write_text(json.dumps(SAVED | changes))
    return folder


def test_settings_are_read_as_they_were_and_may_be_more(tmp_path):
    """A network of one's own needs no entry in the table here."""
    more = {"versions": {"numpy": "2"}, "of_a_later_version": [1], "model": "my_own"}
    assert saved_settings(write(tmp_path, **more)) == SAVED | more
    assert config_of(SAVED | more).as_dict() == SAVED | {"model": "my_own"}


def test_a_run_of_an_earlier_version_lacks_new_settings(tmp_path):
    new = {"image_size", "input_range", "split_names", "data_digest"}
    old = {name: value for name, value in SAVED.items() if name not in new}
    (tmp_path / "config.json").write_text(json.dumps(old))
    assert config_of(saved_settings(tmp_path)).as_dict() == SAVED
    del old["seed"]
    (tmp_path / "config.json").write_text(json.dumps(old))
    with pytest.raises(InputError, match="lacks the setting seed"):
        saved_settings(tmp_path)


@pytest.mark.parametrize("name", DECLARATIONS)
def test_no_setting_may_be_an_object_of_lists(name, tmp_path):
    with pytest.raises(InputError, match=f"config.json .*({name}|cannot be)"):
        saved_settings(write(tmp_path, **{name: {"a": [[]]}}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"seed": -1},
            "seed must be a whole number between 0 and 4,294,967,295, but is -1",
        ),
        ({"attack": "own"}, "attack must be one of cw, "),
        ({"num_bins": 15.0}, "num_bins must be a whole number"),
        ({"refresh_epochs": [99]}, "cannot be .--refresh_epochs must lie between"),
        ({"alpha": "fast"}, "cannot be ..*fast"),
        ({"attack_settings": {"own": 1}}, "cannot be ..*no setting 'own'"),
    ],
)
def test_a_setting_that_cannot_be_is_named(changes, words, tmp_path):
    with pytest.raises(InputError, match=f"config.json .*({words})"):
        saved_settings(write(tmp_path, **changes))
