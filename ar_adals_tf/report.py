"""Make a report of finished runs: the paper's tables and figures on one page.

    python -m ar_adals_tf.report --runs=runs/cifar10-vanilla-0,runs/cifar10-ls-0

writes `report/index.html`, which holds everything and needs nothing beside it, the
figures as PNG and PDF, the tables as CSV, and all of it as report.md. Everything comes
from what the runs have stored: no model is loaded. Runs that differ in their seed alone
are averaged, with their standard deviation. Whatever is missing is named together with
the command that makes it.
"""

import time

from absl import flags

from ar_adals_tf import command_line

FLAGS = command_line.FLAGS


def main() -> None:
    """Report on the runs that the flags name."""
    from ar_adals_tf.reporting.page import write_report

    started = time.perf_counter()
    page = write_report(FLAGS.runs or [], FLAGS.output_dir)
    print(f"{page} is written, in {time.perf_counter() - started:.0f} s")


flags.DEFINE_list("runs", None, "Finished run directories, separated by commas.")

flags.DEFINE_string("output_dir", "report", "Where the report goes.")

if __name__ == "__main__":
    command_line.run(main)
