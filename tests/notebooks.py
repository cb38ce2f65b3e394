"""Executes the notebooks of examples/: `python -m tests.notebooks`, `make notebooks`.

Each runs in a kernel of its own and in an empty folder, and must end without an error.
Progress bars must be those of notebooks.
With `--store` the outputs are written into the notebooks; names choose some of them:

    python -m tests.notebooks --store read_a_report
"""

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "examples"

#: What a progress bar leaves behind, of which nothing is seen once it is closed.
_WIDGET = "application/vnd.jupyter.widget-view+json"

#: What TensorFlow writes to standard error when it starts; it tells of processors.
_TENSORFLOW = re.compile(
    r"^(WARNING: All log messages|To enable the following|[IWE]\d{4} ).*\n", re.M
)


def execute(notebook: nbformat.NotebookNode) -> None:
    """Run all cells, and keep what they show."""
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=None,  # a busy machine is slow
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": folder}},
        ).execute()


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Drop what tells of the machine, and bars that are closed."""
    notebook.metadata = {
        "kernelspec": {
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _stays(output)]


def _stays(output: nbformat.NotebookNode) -> bool:
    if output.get("name") == "stderr":
        output.text = _TENSORFLOW.sub("", output.text)
        return bool(output.text)
    return _WIDGET not in output.get("data", {})


def main() -> None:
    """Execute the notebooks, and say how long each took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="names without .ipynb; default: all")
    parser.add_argument("--store", action="store_true", help="keep the outputs")
    given = parser.parse_args()
    paths = [NOTEBOOKS / f"{name}.ipynb" for name in given.names]
    os.environ["PYTHONPATH"] = str(ROOT)
    bars = 0
    for path in paths or sorted(NOTEBOOKS.glob("*.ipynb")):
        started = time.perf_counter()
        notebook = nbformat.read(path, as_version=4)
        try:
            execute(notebook)
        except CellExecutionError as error:
            sys.exit(f"{path.name}: {error}")
        print(f"{path.name}: {time.perf_counter() - started:.0f} s", flush=True)
        bars += sum(
            _WIDGET in output.get("data", {})
            for cell in notebook.cells
            for output in cell.get("outputs", [])
        )
        if given.store:
            tidy(notebook)
            nbformat.write(notebook, path)
    if not given.names and not bars:
        sys.exit("no notebook has shown a progress bar of its own")


if __name__ == "__main__":
    main()
