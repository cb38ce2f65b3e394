"""What is read is whole, or one sentence says what is wrong; nothing is executed."""

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ar_adals_tf import reading
from ar_adals_tf.errors import InputError
from ar_adals_tf.files import write_json
from ar_adals_tf.reading import read_json, read_npz


@pytest.mark.parametrize("content", [b"", b'{"p": [0.1,', b"\xff\xfe\x00", b"hello"])
def test_damaged_json_is_named(tmp_path, content):
    path = tmp_path / "state.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not valid JSON") as error:
        read_json(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "it is nested too deeply"),
        (b'{"a": ' * 60 + b"1" + b"}" * 60, "it is nested too deeply"),
        (b'{"a": {"b": 1, "c": 2, "b": 1}}', "it has 'b' twice"),
        (b"9" * 10_000, "limit"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'"' + b"a" * 100 + b'"', "it has more than 0 MiB"),
    ],
)
def test_json_of_no_use_is_refused(content, reason, tmp_path, monkeypatch):
    if reason == "it has more than 0 MiB":
        monkeypatch.setattr(reading, "_LARGEST", 100)
    path = tmp_path / "state.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"state.json is not valid JSON .*{reason}"):
        read_json(path)


def test_a_directory_is_no_json(tmp_path):
    with pytest.raises(InputError, match="cannot be read .Is a directory.; a file"):
        read_json(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "absent.json")


def test_json_of_our_depth_is_read(tmp_path):
    content = 1
    for _ in range(49):
        content = [content]
    write_json(tmp_path / "state.json", content)
    assert read_json(tmp_path / "state.json") == content


def test_arrays_come_back_all_of_them(tmp_path):
    path = tmp_path / "arrays.npz"
    arrays = {"a": np.arange(3), "b": np.array(["x", "y"]), "c": np.array("{}")}
    np.savez(path, **arrays)
    read = read_npz(path, ("a", "b"), "set of arrays", "make it again")
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)


class Exploit:
    """Unpickling it would touch a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_arrays_that_cannot_be_had_are_one_sentence(tmp_path):
    path, canary = tmp_path / "arrays.npz", tmp_path / "canary"

    def refused(names=("a",)):
        with pytest.raises(InputError) as error:
            read_npz(path, names, "set of arrays", "make it again")
        text = str(error.value)
        assert str(path) in text and text.endswith("; make it again")
        assert "\n" not in text
        return text

    assert refused().startswith("there is no set of arrays ")
    np.savez(path, a=np.arange(3))
    assert "it has no `b`, only a" in refused(("a", "b"))
    whole = path.read_bytes()
    for content in (b"", b"text", whole[:50], whole[:-1], b"\x80\x04." + whole):
        path.write_bytes(content)
        if content != whole:
            assert "is no whole set of arrays and cannot be read" in refused()
    np.savez(path, a=np.array([Exploit(canary)], object))
    assert "cannot be read (ValueError" in refused()
    path.write_bytes(pickle.dumps(Exploit(canary)))
    refused()
    np.savez(path)
    assert "only nothing" in refused()
    assert not canary.exists()


def compressed(path, values):
    """Write an array, and more behind it, as a member of a compressed file."""
    content = io.BytesIO()
    np.save(content, values)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("p.npy", content.getvalue() + bytes(20_000))
    return struct.pack("<I", zipfile.ZipFile(path).getinfo("p.npy").CRC)


def test_arrays_are_read_to_their_checksum(tmp_path):
    """NumPy alone stops after the last value, and takes both for whole."""
    path = tmp_path / "arrays.npz"
    right = compressed(path, np.zeros(50))
    wrong = compressed(path, np.ones(50))
    with pytest.raises(InputError, match="`p.npy` goes on after its last value"):
        read_npz(path, ("p",), "set of arrays", "make it again")
    whole = path.read_bytes()
    assert whole.count(wrong) == 2
    path.write_bytes(whole.replace(wrong, right))
    with np.load(path) as file:
        assert file["p"].tolist() == [1] * 50
    with pytest.raises(InputError, match="is no whole set of arrays.*Bad CRC-32"):
        read_npz(path, ("p",), "set of arrays", "make it again")
