"""Make a report of finished runs: the paper's tables and figures on one page.

    python -m ar_adals_tf.report --runs=runs/cifar10-vanilla-0,runs/cifar10-ls-0

writes `report/index.html`, which needs no other file. Beside it lie the figures as PNG
and PDF, the tables as CSV, the whole report as report.md, and reproduction.json, which
says of each of the paper's figures whether it lies inside our interval. Everything
comes from what the runs have stored; no model is loaded. Runs that differ only in their
seed are averaged, with their standard deviation. Numbers have 95 % intervals from the
stored predictions; bold is what is not significantly worse than the best. Where
something is missing, the report names the command that makes it.

--runs=cifar10.zip reports on what `reproduce --export` wrote, and
--runs=cifar10.zip,more.zip,runs/mine on several together.

--trade_off=accuracy,ece_under_attack adds a picture of the models between any two
measures and names those that no other one beats significantly.
"""

import time

from absl import flags

from ar_adals_tf import command_line


def main() -> None:
    """Report on the runs that the flags name."""
    from ar_adals_tf.reporting.page import write_report

    started = time.perf_counter()
    runs, folder, trade_off = command_line.values("runs", "output_dir", "trade_off")
    page = write_report(runs or [], folder, trade_off=trade_off)
    print(f"{page} is written, in {time.perf_counter() - started:.0f} s")


flags.DEFINE_list(
    "runs",
    None,
    "Finished run directories, or zip files of reproduce --export; commas between.",
)

flags.DEFINE_string("output_dir", "report", "Where the report goes.")

flags.DEFINE_list(
    "trade_off",
    None,
    "Two measures that models are compared in: accuracy, ece, nll, brier, "
    "accuracy_under_shift, ece_under_shift, nll_under_shift, robust_accuracy, "
    "ece_under_attack, nll_under_attack, time, size, memory.",
)

if __name__ == "__main__":
    command_line.run(main)
