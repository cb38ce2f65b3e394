"""The corruptions against CIFAR-10-C's own images, SciPy, OpenCV and plain loops."""

import functools
import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from ar_adals_tf import corruptions
from ar_adals_tf.corruptions import _blur, _digital, _weather
from ar_adals_tf.corruptions._table import TABLE
from ar_adals_tf.corruptions.apply import (
    CORRUPTIONS,
    GREY,
    STANDARD,
    corrupt,
    unavailable,
)
from ar_adals_tf.errors import InputError
from tests.helpers import tfds_folder_with

EXACT = (
    "brightness",
    "contrast",
    "defocus_blur",
    "gaussian_blur",
    "jpeg_compression",
    "pixelate",
    "saturate",
)
# Motion blur has its own, sharper test.
RANDOM = tuple(n for n in CORRUPTIONS if n not in (*EXACT, "zoom_blur", "motion_blur"))


photographs = pytest.mark.skipif(
    find_spec("imagecorruptions") is None,
    reason="frost needs photographs: pip install imagecorruptions-imaug",
)


def each(names):
    """Names as parameters."""
    return pytest.mark.parametrize("name", names)


def _read(name, **settings):
    tfds = pytest.importorskip("tensorflow_datasets")
    folder = tfds_folder_with("cifar10_corrupted")
    data = tfds.load(name, data_dir=folder, download=False, **settings)
    return list(tfds.as_numpy(data))


@functools.cache
def theirs(name, severity):
    """CIFAR-10-C's images `(100, 32, 32, 3)`."""
    examples = _read(f"cifar10_corrupted/{name}_{severity}", split="test")
    return np.stack([e["image"] for e in examples])


@functools.cache
def clean():
    """The images that they were made from, in the same order.

    The corrupted set holds the first hundred of the original test set; TFDS keeps
    either set in an order of its own, so that the images must be paired by looks.
    """
    wanted = {b"test_%05d" % i for i in range(100)}
    examples = _read("cifar10", split="test")
    images = np.stack([e["image"] for e in examples if e["id"] in wanted])
    assert len(images) == 100

    def looks(x):
        flat = x.reshape(len(x), -1) - x.mean((1, 2, 3))[:, None]
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    alike = looks(theirs("pixelate", 1)) @ looks(images).T
    pairs = alike.argmax(1)
    assert len(set(pairs)) == 100 and alike.max(1).min() > 0.97
    return images[pairs]


def pictures(count, height, width, channels, seed=0):
    """Smooth random images with some flat black and white."""
    noise = np.random.default_rng(seed).normal(size=(count, height, width, channels))
    smooth = ndimage.gaussian_filter(noise, (0, 3, 3, 0))
    return np.clip(128 + 1200 * smooth, 0, 255).astype(np.uint8)


SOME = pictures(6, 32, 32, 3)


# --- against CIFAR-10-C -----------------------------------------------------------


@each(EXACT)
def test_equals_cifar_10_c(name):
    for severity in range(1, 6):
        np.testing.assert_array_equal(
            corrupt(clean(), name, severity), theirs(name, severity)
        )


def test_zoom_blur_equals_cifar_10_c_but_for_float32():
    for severity in range(1, 6):
        ours = corrupt(clean(), "zoom_blur", severity).astype(int)
        difference = np.abs(ours - theirs("zoom_blur", severity))
        # Theirs adds up in float32; sums that are whole numbers are cut either way.
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.004


@pytest.mark.parametrize("severity", [1, 5])
def test_motion_blur_equals_cifar_10_c_at_some_angle(severity):
    angles = np.linspace(-45, 45, 721)
    radius, sigma = TABLE["motion_blur"].cifar[severity - 1]
    for image, blurred in zip(
        clean()[:6], theirs("motion_blur", severity), strict=False
    ):
        tried = _blur.along_line(
            np.repeat(image[None], len(angles), 0), radius, sigma, angles
        )
        difference = tried.astype(int) - blurred
        best = difference[np.abs(difference).mean((1, 2, 3)).argmin()]
        # Rounded as ImageMagick does, where these files were cut. An angle between
        # two of the grid may move a tap of little weight.
        assert ((best == 0) | (best == 1)).mean() > 0.99
        assert np.abs(best).max() <= 2


@pytest.mark.parametrize("made_by", ["CIFAR-10-C", "us"])
@pytest.mark.parametrize("severity", [1, 3, 5])
def test_frost_is_some_place_of_a_photograph(severity, made_by):
    image_share, frost_share, size = TABLE["frost"].cifar[severity - 1]
    images = clean()[:3]
    made = corrupt(images, "frost", severity)
    if made_by == "CIFAR-10-C":
        made = theirs("frost", severity)[:3]

    def mixed(image, frost):
        return np.clip(image_share * image + frost_share * frost, 0, 255).astype(int)

    rows, columns = np.random.default_rng(0).integers(0, 32, (2, 40))
    for image, frosted in zip(images, made, strict=True):
        exact = 0
        assert size == 0.2
        for small in _weather.frost_photographs(small=True):
            tops, lefts = (np.arange(side - 32) for side in small.shape[:2])
            there = small[tops[:, None, None] + rows, lefts[:, None] + columns]
            wrong = mixed(image[rows, columns], there) != frosted[rows, columns]
            for top, left in np.argwhere(wrong.mean((2, 3)) < 0.1):
                part = small[top : top + 32, left : left + 32]
                exact = max(exact, (mixed(image, part) == frosted).mean())
        assert exact > 0.99


@photographs
def test_frost_covers_images_larger_than_its_photographs():
    image = np.zeros((1, 90, 1500, 1), np.uint8)
    assert (corrupt(image, "frost", 5) > 0).mean() > 0.5


def _statistics(corrupted, images):
    """Per image: mean, spread, roughness down, across and between colours."""
    change = corrupted.astype(float) - images
    return np.stack(
        [
            change.mean((1, 2, 3)),
            np.abs(change).mean((1, 2, 3)),
            (change**2).mean((1, 2, 3)),
            (np.diff(change, axis=1) ** 2).mean((1, 2, 3)),
            (np.diff(change, axis=2) ** 2).mean((1, 2, 3)),
            (np.diff(change, axis=3) ** 2).mean((1, 2, 3)),
            change.mean(3).std((1, 2)),
        ],
        axis=1,
    )


@each(RANDOM)
def test_statistics_of_random_types_are_cifar_10_c_s(name):
    for severity in range(1, 6):
        seeds = [
            _statistics(corrupt(clean(), name, severity, seed=seed), clean())
            for seed in range(4)
        ]
        difference = _statistics(theirs(name, severity), clean()) - np.mean(seeds, 0)
        error = difference.std(0, ddof=1) / np.sqrt(len(difference))
        # 385 figures in all: 4 standard errors are passed once in 40 such suites.
        assert (np.abs(difference.mean(0)) < 4 * error).all(), (severity, error)


# --- what an image's randomness depends on ----------------------------------------


@each(CORRUPTIONS)
def test_an_image_is_corrupted_alike_in_any_batch(name):
    images = pictures(100, 32, 32, 3)  # more than one chunk
    together = corrupt(images, name, 3, seed=5)
    for i in (0, 84, 85, 99):
        alone = corrupt(images[i : i + 1], name, 3, seed=5, ids=[i])
        np.testing.assert_array_equal(alone[0], together[i])
    order = np.random.default_rng(0).permutation(100)
    shuffled = corrupt(images[order], name, 3, seed=5, ids=order, workers=2)
    np.testing.assert_array_equal(shuffled, together[order])


@each([*RANDOM, "motion_blur"])
def test_seed_severity_and_id_change_the_randomness(name):
    def noise(severity=3, **settings):
        return corrupt(SOME[[0, 0, 0, 0]], name, severity, **settings)

    first = noise(seed=1)
    np.testing.assert_array_equal(first, noise(seed=1))
    assert (first != noise(seed=2)).any(axis=(1, 2, 3)).mean() > 0.5
    assert (first[0] != first[1:]).any(axis=(1, 2, 3)).mean() > 0.5
    named = noise(seed=1, ids=["a", b"b", "c", "a"])
    np.testing.assert_array_equal(named[0], named[3])
    assert (named[:3] != first[:3]).any()


def test_severities_and_types_draw_apart():
    flat = np.full((1, 32, 32, 3), 128, np.uint8)

    def noise(name, severity, amount):
        change = corrupt(flat, name, severity).astype(float) - 128
        return change.ravel() / amount

    drawn = [
        noise("gaussian_noise", 1, 0.04),
        noise("gaussian_noise", 2, 0.06),
        noise("speckle_noise", 1, 0.06),
    ]
    # Of 3,072 pairs of independent numbers the correlation is within 0.07.
    assert np.abs(np.corrcoef(drawn) - np.eye(3)).max() < 0.07


def test_an_error_in_a_thread_reaches_the_caller(monkeypatch):
    def fails(x, c, scale, draws):
        if (x == 7).any():
            raise ValueError("broken")
        return x

    monkeypatch.setitem(TABLE, "fog", TABLE["fog"]._replace(function=fails))
    images = np.zeros((400, 32, 32, 3), np.uint8)  # more than one chunk
    corrupt(images, "fog", 1, workers=2)
    images[399] = 7
    with pytest.raises(ValueError, match="broken"):
        corrupt(images, "fog", 1, workers=2)


# --- severities, sizes, channels --------------------------------------------------


# The published constants of the others do not grow in every step.
@each(
    n
    for n in CORRUPTIONS
    if n not in ("elastic", "frost", "frosted_glass_blur", "saturate", "spatter")
)
def test_change_grows_with_severity(name):
    # Their own motion blurs of severities 3 and 4 differ in length alone.
    severities = (1, 2, 3, 5) if name == "motion_blur" else (1, 2, 3, 4, 5)
    images = pictures(100, 32, 32, 3).astype(float)
    changes = [
        ((corrupt(images.astype(np.uint8), name, s) - images) ** 2).mean()
        for s in severities
    ]
    assert np.all(np.diff(changes) > 0), changes


@each(GREY)
def test_grey_images_of_other_sizes(name):
    images = pictures(3, 28, 30, 1)
    for severity in (1, 3, 5):
        out = corrupt(images, name, severity)
        assert out.shape == images.shape and out.dtype == np.uint8
    assert (out != images).any(axis=(1, 2, 3)).all()


@each(
    (
        "brightness",
        "contrast",
        "defocus_blur",
        "elastic",
        "fog",
        "frosted_glass_blur",
        "gaussian_blur",
        "motion_blur",
        "pixelate",
        "snow",
        "zoom_blur",
    )
)
def test_a_grey_image_is_what_its_colour_copy_becomes(name):
    grey = pictures(4, 28, 28, 1)
    for severity in (1, 4):
        colour = corrupt(np.repeat(grey, 3, axis=3), name, severity).astype(int)
        # The luminance weights sum to 1 but for the last bit.
        np.testing.assert_allclose(
            colour, np.repeat(corrupt(grey, name, severity), 3, axis=3), atol=1
        )


@pytest.mark.parametrize(
    "side, deviation", [(16, 0.04), (84, 0.04), (85, 0.08), (224, 0.08)]
)
def test_noise_has_the_constants_of_the_nearer_benchmark(side, deviation):
    flat = np.full((1 + 50_000 // side**2, side, side, 1), 128, np.uint8)
    noise = corrupt(flat, "gaussian_noise", 1) / 255
    assert noise.std() == pytest.approx(deviation, rel=0.02)


@pytest.mark.parametrize(
    "side, sigma", [(28, 0.4), (32, 0.4), (64, 0.8), (112, 0.5), (224, 1), (336, 1.5)]
)
def test_lengths_grow_with_the_side(side, sigma):
    image = pictures(1, side, side + 3, 3)
    expected = ndimage.gaussian_filter(
        image[0] / 255, (sigma, sigma, 0), mode="nearest"
    )
    np.testing.assert_array_equal(
        corrupt(image, "gaussian_blur", 1)[0], (expected * 255).astype(np.uint8)
    )


def test_all_types_at_image_net_s_size():
    images = pictures(1, 224, 224, 3)
    for name in CORRUPTIONS:
        if name == "frost" and find_spec("imagecorruptions") is None:
            continue
        out = corrupt(images, name, 5)
        assert out.shape == images.shape
        assert (out != images).mean() > 0.1, name


def test_names():
    assert len(CORRUPTIONS) == 19 and len(STANDARD) == 15 and len(GREY) == 18
    folder = Path(tfds_folder_with("cifar10_corrupted"), "cifar10_corrupted")
    there = {path.name[:-2] for path in folder.glob("*_1")}
    assert there == set(CORRUPTIONS)
    left_out = {"gaussian_blur", "saturate", "spatter", "speckle_noise"}
    assert set(STANDARD) == set(CORRUPTIONS) - left_out


# --- the parts --------------------------------------------------------------------


@pytest.mark.parametrize("reach", [1, 2, 4])
def test_glass_copies_like_the_loop_over_pixels(reach):
    height, width = 17, 13
    steps = np.random.default_rng(reach).integers(-reach, reach, (5, 2, height, width))
    sources = _blur.copied_from(steps, reach)
    for step, source in zip(steps, sources, strict=True):
        pixels = np.arange(height * width).reshape(height, width)
        for y in range(height - reach, reach, -1):
            for x in range(width - reach, reach, -1):
                down, right = step[:, y, x]
                pixels[y, x] = pixels[y + down, x + right]
        np.testing.assert_array_equal(source.reshape(height, width), pixels)


def diamond_square(numbers, side, decay):
    """One point at a time; a neighbour outside is the one on the other side."""
    z = np.zeros((side, side))
    numbers = iter(numbers)

    def settle(rows, columns, neighbours, amplitude):
        for y in rows:
            for x in columns:
                four = [z[(y + a) % side, (x + b) % side] for a, b in neighbours]
                z[y, x] = sum(four) / 4 + amplitude * next(numbers)

    step, amplitude = side, 1.0
    while step >= 2:
        half = step // 2
        whole, between = range(0, side, step), range(half, side, step)
        diagonal = [(a, b) for a in (-half, half) for b in (-half, half)]
        straight = [(-half, 0), (half, 0), (0, -half), (0, half)]
        settle(between, between, diagonal, amplitude)
        settle(whole, between, straight, amplitude)
        settle(between, whole, straight, amplitude)
        step, amplitude = half, amplitude / decay**2
    return (z - z.min()) / (z.max() - z.min())


def test_fog_is_the_diamond_square_algorithm():
    noise = np.random.default_rng(0).uniform(-1, 1, (2, 63))
    for fast, numbers in zip(_weather.plasma(noise, 1.75), noise, strict=True):
        np.testing.assert_allclose(fast, diamond_square(numbers, 8, 1.75), atol=1e-12)


@pytest.mark.parametrize("factor", [1, 1.03, 1.26, 2.25])
def test_enlarging_equals_scipy_s_zoom(factor):
    images = np.random.default_rng(0).normal(size=(2, 28, 32, 3))
    crop = [int(np.ceil(side / factor)) for side in (28, 32)]
    top, left = (28 - crop[0]) // 2, (32 - crop[1]) // 2
    for image, fast in zip(images, _blur.enlarge(images, (factor,)), strict=True):
        part = image[top : top + crop[0], left : left + crop[1]]
        zoomed = ndimage.zoom(part, (factor, factor, 1), order=1)
        trim = [(a - b) // 2 for a, b in zip(zoomed.shape, (28, 32), strict=False)]
        zoomed = zoomed[trim[0] : trim[0] + 28, trim[1] : trim[1] + 32]
        np.testing.assert_allclose(fast, zoomed, atol=1e-12)


@pytest.mark.parametrize(
    "degrees, down, right", [(0, 0, 1), (90, 1, 0), (-90, -1, 0), (45, 1, 1)]
)
def test_motion_blur_is_half_a_gaussian_along_the_line(degrees, down, right):
    image = pictures(1, 20, 24, 3)
    blurred = _blur.along_line(image, 4.2, 6.0, np.array([degrees]))
    # At 45 degrees a step of 1 moves 0.707 of a pixel, rounded.
    moves = [
        round(i * np.hypot(down, right) / (abs(down) + abs(right))) for i in range(11)
    ]
    weights = np.array([np.exp(-(i**2) / 72) for i in range(11)])
    expected = np.zeros(image.shape[1:])
    y, x = np.mgrid[:20, :24]
    for weight, move in zip(weights / weights.sum(), moves, strict=True):
        rows = np.clip(y + down * move, 0, 19)
        columns = np.clip(x + right * move, 0, 23)
        expected += weight * image[0, rows, columns]
    np.testing.assert_array_equal(blurred[0], np.rint(expected))


@pytest.mark.parametrize(
    "fold, mode", [(_digital.whole_sample, "mirror"), (_digital.half_sample, "reflect")]
)
def test_interpolation_equals_scipy_s(fold, mode):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 9, 12, 3))
    rows, columns = rng.uniform(-30, 40, (2, 2, 9, 12))
    ours = _digital.bilinear(images, rows, columns, fold)
    for n in range(2):
        for c in range(3):
            expected = ndimage.map_coordinates(
                images[n, ..., c], (rows[n], columns[n]), order=1, mode=mode
            )
            np.testing.assert_allclose(ours[n, ..., c], expected, atol=1e-12)


def test_affine_map_takes_the_three_points_along():
    moved = np.array([[[3, -1], [0, 2], [-2, 4]], [[0, 0], [0, 0], [0, 0]]])
    rows, columns = _digital.affine_grid(moved, 32, 40)
    for shifts, row, column in zip(moved, rows, columns, strict=True):
        points = [(20 + 10, 16 + 10), (20 + 10, 16 - 10), (20 - 10, 16 - 10)]
        for (x, y), (right, down) in zip(points, shifts, strict=True):
            at = y + down, x + right
            np.testing.assert_allclose((column[at], row[at]), (x, y), atol=1e-9)
    np.testing.assert_allclose(rows[1], np.mgrid[:32, :40][0], atol=1e-9)


def test_water_equals_opencv_s():
    cv2 = pytest.importorskip("cv2")
    liquid = 0.65 + 0.3 * np.random.default_rng(0).normal(size=(30, 32, 32))
    liquid = _blur.smooth(liquid, 1)
    drops = (np.where(liquid < 0.69, 0, np.minimum(liquid, 1)) * 255).astype(np.uint8)
    light = _weather.refraction(drops)
    edges = _weather.outlines(drops)
    distances = _weather.chamfer_distance(edges)
    for i, drop in enumerate(drops):
        canny = cv2.Canny(drop, 50, 150)
        np.testing.assert_array_equal(edges[i], canny > 0)
        distance = cv2.distanceTransform(255 - canny, cv2.DIST_L2, 5)
        # The pixel nearest in a straight line need not be the nearest by steps.
        np.testing.assert_allclose(distances[i], distance, atol=0.3)
        blurred = cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8)
        relief = cv2.equalizeHist(blurred)
        emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
        relief = cv2.blur(cv2.filter2D(relief, cv2.CV_8U, emboss), (3, 3))
        product = drop * relief.astype(np.float32)
        np.testing.assert_allclose(light[i], product / product.max(), atol=1e-3)


def test_images_without_an_edge_keep_apart():
    marked = np.zeros((3, 8, 8), bool)
    marked[1, 2, 3] = True
    distance = _weather.chamfer_distance(marked)
    assert np.isinf(distance[[0, 2]]).all()
    assert distance[1, 2, 3] == 0
    np.testing.assert_allclose(
        distance[1, [2, 3, 4, 7], [5, 4, 4, 3]], [2, 1.4, 2.1969, 5]
    )
    assert np.isinf(_weather.chamfer_distance(marked[:1])).all()


# --- what is refused --------------------------------------------------------------


@pytest.mark.parametrize(
    "images, name, severity, message",
    [
        (SOME, "gausian_noise", 1, "unknown corruption 'gausian_noise'; choose from"),
        (SOME, "fog", 0, "severity must be 1, 2, 3, 4 or 5; received 0"),
        (SOME, "fog", 6, "received 6"),
        (SOME / 255, "fog", 1, "uint8 images; received float64"),
        (SOME[0], "fog", 1, r"shape \(N, H, W, C\).*received \(32, 32, 3\)"),
        (SOME[..., :2], "fog", 1, r"received \(6, 32, 32, 2\)"),
        (SOME[:, :7], "fog", 1, "at least 8 pixels; received images of 7 x 32"),
        (SOME[..., :1], "saturate", 1, "saturate changes nothing on images of one"),
    ],
)
def test_bad_input(images, name, severity, message):
    with pytest.raises(InputError, match=message):
        corrupt(images, name, severity)


def test_ids_and_workers_are_checked():
    with pytest.raises(InputError, match="received 2 ids for 6 images"):
        corrupt(SOME, "fog", 1, ids=[0, 1])
    with pytest.raises(InputError, match="workers must be at least 1; received 0"):
        corrupt(SOME, "fog", 1, workers=0)


def test_frost_without_its_photographs_says_what_to_install(monkeypatch):
    _weather.frost_photographs.cache_clear()
    monkeypatch.setattr(_weather, "find_spec", lambda name: None)
    for side in (33, 90, 224):
        with pytest.raises(InputError, match="pip install imagecorruptions-imaug"):
            corrupt(np.zeros((1, side, side, 3), np.uint8), "frost", 1)
        assert set(unavailable(side, side)) == {"frost"}
    for height, width in ((8, 8), (32, 32), (28, 104), (62, 30)):
        image = np.zeros((1, height, width, 3), np.uint8)
        assert (corrupt(image, "frost", 5) > 0).mean() > 0.5
        assert unavailable(height, width) == {}
    with pytest.raises(InputError, match="pip install imagecorruptions-imaug"):
        corrupt(np.zeros((1, 30, 105, 3), np.uint8), "frost", 1)
    assert set(unavailable(30, 105)) == {"frost"}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((20, 32, 32, 3), "721ca860"), ((20, 28, 28, 1), "43da524a")],
)
def test_small_photographs_give_the_bits_of_the_large_ones(shape, expected):
    """What the large photographs, resampled by a fifth, gave for these images."""
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    made = b"".join(corrupt(images, "frost", s).tobytes() for s in range(1, 6))
    assert hashlib.sha256(made).hexdigest().startswith(expected)


@photographs
@pytest.mark.parametrize("grey", [False, True])
def test_small_photographs_are_the_large_ones(grey):
    large, small = (_weather.frost_photographs(grey, small=s) for s in (False, True))
    for one, other in zip(large, small, strict=True):
        np.testing.assert_array_equal(_weather.resample(one, 0.2), other)


def test_no_images_give_none():
    assert corrupt(SOME[:0], "fog", 1).shape == (0, 32, 32, 3)
    assert corruptions.SEVERITIES == (1, 2, 3, 4, 5)
