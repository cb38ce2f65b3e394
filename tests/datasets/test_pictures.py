"""Decoded pictures against NumPy: orientation, transparency, bits, colours, sizes."""

import io

import numpy as np
import pytest
from PIL import Image

from ar_adals_tf.datasets.pictures import SUFFIXES, decode, shape_of

#: What a camera's note means: how to turn the stored pixels upright.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def saved(picture, kind="png", **settings):
    file = io.BytesIO()
    picture.save(file, kind, **settings)
    return file.getvalue()


@pytest.fixture
def colours(rng):
    return rng.integers(0, 256, (6, 9, 3), np.uint8)


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff", "ppm"])
def test_lossless_files_give_their_pixels(kind, colours):
    found = decode(saved(Image.fromarray(colours), kind), colours.shape)
    np.testing.assert_array_equal(found, colours)


@pytest.mark.parametrize("note", UPRIGHT)
def test_a_cameras_note_turns_the_picture_upright(note, colours, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = note
    data = saved(Image.fromarray(colours), "png", exif=exif)
    expected = UPRIGHT[note](colours)
    (tmp_path / "photo.png").write_bytes(data)
    assert shape_of(tmp_path / "photo.png") == expected.shape
    np.testing.assert_array_equal(decode(data, expected.shape), expected)


def test_transparent_pixels_become_white(colours, rng):
    alpha = rng.integers(0, 256, colours.shape[:2], np.uint8)
    picture = Image.fromarray(np.dstack([colours, alpha]))
    share = alpha[..., None] / 255
    expected = colours * share + 255 * (1 - share)
    found = decode(saved(picture), colours.shape)
    np.testing.assert_allclose(found, expected, atol=1)  # Pillow rounds twice


def test_a_transparent_colour_of_a_palette_becomes_white():
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putpixel((1, 0), 1)
    found = decode(saved(picture, transparency=1), (1, 2, 3))
    assert found.tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_16_bits_become_8():
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16)
    data = saved(Image.fromarray(grey * 257))
    np.testing.assert_array_equal(decode(data, (16, 16, 1))[..., 0], grey)
    np.testing.assert_array_equal(decode(data, (16, 16, 3))[..., 2], grey)


def test_printing_colours_become_red_green_and_blue(rng):
    ink = rng.integers(0, 256, (5, 4, 4), np.uint8)
    found = decode(saved(Image.fromarray(ink, "CMYK"), "tiff"), (5, 4, 3))
    light = 255 - ink.astype(float)
    np.testing.assert_allclose(found, light[..., :3] * light[..., 3:] / 255, atol=1)


def test_colour_becomes_grey_by_luma_and_grey_is_repeated(colours):
    grey = decode(saved(Image.fromarray(colours)), (6, 9, 1))[..., 0]
    np.testing.assert_allclose(grey, colours @ [0.299, 0.587, 0.114], atol=1)
    found = decode(saved(Image.fromarray(grey)), (6, 9, 3))
    np.testing.assert_array_equal(found, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("size", [(40, 20), (20, 40)])
def test_another_size_keeps_the_centre(size):
    """The outer quarters of the longer side are red, and go."""
    picture = Image.new("RGB", size, "red")
    picture.paste((0, 0, 255), (10, 0, 30, 20) if size[0] == 40 else (0, 10, 20, 30))
    found = decode(saved(picture), (10, 10, 3))
    assert (found[1:-1, 1:-1] == (0, 0, 255)).all()


def test_a_smaller_picture_shows_all_pixels():
    """Stripes of one pixel become grey, not one of their colours."""
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    inner = decode(saved(Image.fromarray(stripes)), (8, 8, 1))[2:-2, 2:-2]
    np.testing.assert_allclose(inner, 127.5, atol=3)


def test_a_much_larger_jpeg_is_the_same_picture(rng):
    """It is read at a part of its size; the means of its quarters stay."""
    parts = rng.integers(30, 220, (2, 2, 3), np.uint8)
    large = Image.fromarray(np.kron(parts, np.ones((256, 256, 1), np.uint8)))
    found = decode(saved(large, "jpeg", quality=95), (8, 8, 3)).astype(float)
    quarters = found.reshape(2, 4, 2, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(quarters, parts, atol=6)


def test_what_is_no_whole_picture_raises(colours):
    data = saved(Image.fromarray(np.tile(colours, (20, 20, 1))), "jpeg")
    for broken in (b"", b"no picture", data[: len(data) // 2]):
        with pytest.raises(Exception):  # noqa: B017 - whatever Pillow's parts raise
            decode(broken, (8, 8, 3))


def test_pillow_reads_every_suffix():
    Image.init()
    assert {f".{suffix}" for suffix in SUFFIXES} <= set(Image.registered_extensions())
