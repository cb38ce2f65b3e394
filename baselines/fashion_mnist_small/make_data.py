"""Make `ar_adals_tf/data/fashion_mnist_small.npz` from Fashion-MNIST's original files.

    python baselines/fashion_mnist_small/make_data.py /usr/share/datasets/fashion-mnist

The folder is where Debian's package `dataset-fashion-mnist` puts the four
`*-ubyte.gz` files. Train: the first 5,000 training images; validation: the next
1,000; test: the first 2,000 test images. The archive is an ordinary `.npz` whose
members are LZMA-compressed, which `numpy.load` reads and which is a fifth smaller.
"""

import gzip
import io
import sys
import zipfile
from pathlib import Path

import numpy as np


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes."""
    data = gzip.decompress(path.read_bytes())
    num_dimensions = data[3]
    shape = np.frombuffer(data, ">i4", num_dimensions, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * num_dimensions).reshape(shape)


def main(folder: Path, target: Path) -> None:
    """Cut the three splits and write them with fixed dates, so that bytes repeat."""
    arrays = {}
    for name, prefix, start, stop in [
        ("train", "train", 0, 5000),
        ("validation", "train", 5000, 6000),
        ("test", "t10k", 0, 2000),
    ]:
        images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")[start:stop]
        labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")[start:stop]
        arrays[f"{name}_images"], arrays[f"{name}_labels"] = images, labels
    with zipfile.ZipFile(target, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy", (2017, 8, 25, 0, 0, 0))
            member.compress_type = zipfile.ZIP_LZMA
            archive.writestr(member, buffer.getvalue())


if __name__ == "__main__":
    package = Path(__file__).parents[2] / "ar_adals_tf"
    main(Path(sys.argv[1]), package / "data" / "fashion_mnist_small.npz")
