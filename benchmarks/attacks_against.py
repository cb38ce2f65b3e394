"""Two versions of the attacks side by side: is this one slower than another?

    python -m benchmarks.attacks_against --other=../before --images=64 --repeats=1

Runs `benchmarks/attacks.py` of this checkout with the package of `--other` and with the
package of this checkout, in turn, so that both share the machine's drift. All further
arguments go to it. The table holds medians over the repeats, and ratios of this
checkout to the other: below 1 this one is faster.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from ar_adals_tf.process import hardware

_HERE = Path(__file__).resolve().parents[1]


def run(package: Path, arguments: list[str]) -> dict[str, dict]:
    """Return the rows of one run of the benchmark with one version of the package."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        script = _HERE / "benchmarks" / "attacks.py"
        subprocess.run(
            [sys.executable, str(script), f"--json={path}", "--repeats=1", *arguments],
            env=os.environ | {"PYTHONPATH": str(package)},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return json.loads(path.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--other", type=Path, required=True, help="another checkout")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each version")
    args, further = parser.parse_known_args()
    versions = {"other": args.other.resolve(), "this": _HERE}
    runs: dict[str, list[dict[str, dict]]] = {name: [] for name in versions}
    for _ in range(args.repeats):
        for name, package in versions.items():
            runs[name].append(run(package, ["--peers=", *further]))

    def median(version: str, row: str, field: str) -> float:
        return statistics.median(one[row][field] for one in runs[version])

    print(hardware.describe_hardware())
    print(
        f"{'':27}{'other s':>9}{'this s':>9}{'ratio':>7}{'cpu':>7}{'passes':>8}"
        f"{'distances equal':>17}{'at most off':>13}"
    )
    for row in runs["this"][0]:
        ratio = {
            field: median("this", row, field) / median("other", row, field)
            for field in ("seconds", "processor", "passes")
        }
        old, new = (np.array(runs[v][0][row]["distances"]) for v in ("other", "this"))
        off = np.max(np.abs(new - old) / np.maximum(old, 1e-12))
        print(
            f"{row:27}{median('other', row, 'seconds'):9.1f}"
            f"{median('this', row, 'seconds'):9.1f}{ratio['seconds']:7.2f}"
            f"{ratio['processor']:7.2f}{ratio['passes']:8.3f}"
            f"{np.mean(new == old):17.2f}{off:13.1e}"
        )


if __name__ == "__main__":
    main()
