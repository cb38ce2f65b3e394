"""Reproduce a study: plan it, run what is missing, and report at any time.

    python -m ar_adals_tf.reproduce --study=cifar10

trains every method of the study at every seed, evaluates the runs and writes a report
of them. What is there already is found. After an interruption, the same command goes
on where it was. All methods at the first seed come first.

--plan only says what is done and what is missing, and how long it will take. --commands
prints the missing commands stage by stage, for the job array of a cluster. --report
only reports on what is there. --export=cifar10.zip writes the finished runs into a file
without models, which `report --runs=cifar10.zip` takes on any machine. --engine=ray
works on all machines of a Ray cluster.

The studies are the files of flags/studies. `--study=smoke` takes minutes on any
machine. A .toml file of your own is a study as well.

The exit status is 75 if --budget ended before the study was done.
"""

import inspect
import sys

from absl import flags

from ar_adals_tf import command_line


def main() -> None:
    """Do what the flags say; what they leave out has `reproduce`'s defaults."""
    from ar_adals_tf.studies.reproduction import reproduce

    sys.exit(reproduce(**command_line.given(*inspect.signature(reproduce).parameters)))


flags.DEFINE_string("study", None, "A study, such as cifar10, or a .toml file.")
flags.DEFINE_list("seeds", None, "Some of the study's seeds, such as 0,1.")
flags.DEFINE_list("only", None, "Some of its methods, such as ar_adals,adals.")
flags.DEFINE_string("output_dir", None, "The default is runs/<study>-study.")
flags.DEFINE_bool("plan", False, "Only say what is missing and how long it takes.")
flags.DEFINE_bool("commands", False, "Only print the missing commands.")
flags.DEFINE_bool("report", False, "Only report on what is there.")
flags.DEFINE_string("export", None, "Only write the finished runs into this .zip file.")
flags.DEFINE_enum(
    "export_sets",
    "all",
    ["all", "clean"],
    "Which predictions --export takes. clean: those of the clean test images alone.",
)
flags.DEFINE_integer("jobs", None, "How many cells run at a time; default: GPUs.", 1)
flags.DEFINE_string(
    "budget",
    None,
    "Begin nothing new after this time, such as 40m, and stop what runs at its next "
    "epoch, shard, set of predictions or part of the certified images.",
)
flags.DEFINE_enum(
    "engine", "local", ["local", "ray"], "This machine, or Ray's cluster."
)
flags.DEFINE_float("gpus_per_cell", None, "With Ray: such as 1, or 0.33 of one.", 0)
flags.DEFINE_float("cpus_per_cell", 1, "With Ray: the processor cores of a cell.", 0)

if __name__ == "__main__":
    command_line.run(main)
