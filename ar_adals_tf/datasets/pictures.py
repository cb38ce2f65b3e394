"""Picture files, decoded: whatever Pillow opens becomes 8-bit grey or colour.

- The first picture of a file that has several counts.
- The orientation that a camera notes (EXIF) is applied.
- Transparent pixels become white.
- 16 bits become 8: grey values are divided by 257.
- CMYK and palettes become RGB. Colour becomes grey by the luma of ITU-R 601.
- A picture of another size is scaled, so that it covers the wanted size, and its centre
  is kept. The filter is bicubic and looks at all pixels. A JPEG that is more than four
  times too large is first read at a half, a quarter or an eighth of its size.
"""

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

#: The suffixes of files that are read as pictures, in lower case.
SUFFIXES = frozenset(
    ("bmp", "gif", "jfif", "jpe", "jpeg", "jpg", "pbm", "pgm")
    + ("png", "pnm", "ppm", "tif", "tiff", "webp")
)

_ROTATED = (5, 6, 7, 8)  # EXIF orientations that exchange the sides
_ORIENTATION = 0x0112
_GREY = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F"})
_TRANSPARENT = frozenset({"RGBA", "LA", "PA", "La", "RGBa"})


def shape_of(path: str | bytes) -> tuple[int, int, int]:
    """Return height, width and channels (1 or 3) of a picture, from its header alone.

    Raises:
        Exception: Whatever Pillow raises on a file that it cannot read.
    """
    from PIL import Image

    with Image.open(path) as picture:
        width, height = picture.size
        if picture.getexif().get(_ORIENTATION) in _ROTATED:
            width, height = height, width
        return height, width, 1 if picture.mode in _GREY else 3


def decode(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Return a picture as uint8 of a shape `(height, width, 1 or 3)`.

    Args:
        data: The content of its file.
        shape: The wanted shape; see the module's head for what is done.

    Raises:
        Exception: Whatever Pillow raises on a file that it cannot read.

    Example:
        >>> file = io.BytesIO()
        >>> from PIL import Image
        >>> Image.new("LA", (8, 4), (0, 0)).save(file, "png")
        >>> decode(file.getvalue(), (2, 2, 3)).min().item()
        255
    """
    from PIL import Image, ImageOps

    height, width, channels = shape
    with Image.open(io.BytesIO(data)) as picture:
        picture.draft(None, (4 * max(height, width),) * 2)
        plain = _eight_bits(ImageOps.exif_transpose(picture), channels)
    if plain.size != (width, height):
        plain = ImageOps.fit(plain, (width, height), Image.Resampling.BICUBIC)
    return np.asarray(plain).reshape(shape)


def _eight_bits(picture: "Image.Image", channels: int) -> "Image.Image":
    from PIL import Image

    if picture.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        grey = np.clip(np.rint(np.asarray(picture, np.float64) / 257), 0, 255)
        picture = Image.fromarray(grey.astype(np.uint8))
    elif picture.mode == "F":
        raise ValueError(
            "pictures of floats have no range; save them with 8 or 16 bits"
        )
    if picture.mode in _TRANSPARENT or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    wanted = "L" if channels == 1 else "RGB"
    if wanted == "L" and picture.mode not in ("L", "RGB"):
        picture = picture.convert("RGB")
    return picture if picture.mode == wanted else picture.convert(wanted)
