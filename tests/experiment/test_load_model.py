"""Model files that are damaged or foreign: one sentence, and Keras never runs them."""

import json
import struct
import zipfile

import keras
import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.runs import load_model
from ar_adals_tf.process.endings import first_line

CONFIG = json.dumps({"module": "keras", "class_name": "Sequential", "config": {}})
METHOD, FLAGS = 8, 6  # places in a local header; two bytes further in the directory


def write(path, change=None, name="config.json"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, CONFIG)
    if change:
        data = bytearray(path.read_bytes())
        change(data)
        path.write_bytes(data)
    return path


def in_both_headers(place, value):
    """Return what puts a value into the header of the part and of the directory."""

    def change(data):
        directory = data.index(b"PK\x01\x02")
        for at in (place, directory + place + 2):
            data[at : at + 2] = struct.pack("<H", value)

    return change


def spoil(data):
    """Change the compressed bytes, behind the header of 30 bytes and the name."""
    start = 30 + len("config.json")
    data[start : start + 20] = b"\xff" * 20


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (in_both_headers(METHOD, 99), "NotImplementedError: "),
        (in_both_headers(FLAGS, 1), "RuntimeError: .*encrypted"),
        (spoil, "error: Error -3 while decompressing"),
        (lambda data: data.clear(), "BadZipFile: "),
    ],
)
def test_what_cannot_be_read_is_refused_before_keras_sees_it(
    change, why, tmp_path, monkeypatch
):
    """Keras reads by itself, so a part that is not looked through could be code."""
    monkeypatch.setattr(keras.models, "load_model", lambda *_, **__: pytest.fail())
    path = write(tmp_path / "m.keras", change)
    with pytest.raises(InputError, match=rf"m.keras cannot be loaded \({why}"):
        load_model(path)


def test_a_file_without_a_configuration_is_refused(tmp_path):
    path = write(tmp_path / "m.keras", name="other.json")
    with pytest.raises(InputError, match="m.keras cannot be loaded .*config.json"):
        load_model(path)


@pytest.mark.parametrize("error", [EOFError(), MemoryError(), ValueError("\n")])
def test_errors_without_text_have_a_name(error, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(keras.models, "load_model", fail)
    name = type(error).__name__
    assert first_line(error) == name
    with pytest.raises(InputError, match=rf"cannot be loaded \({name}: {name}\)"):
        load_model(write(tmp_path / "m.keras"))
