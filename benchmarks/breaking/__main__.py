"""What the commands survive: killed, interrupted, starved, together, damaged.

    python -m benchmarks.breaking                          # all of it; it takes long
    python -m benchmarks.breaking --only=kills,full_disk --tries=5
    python -m benchmarks.breaking --list

prints a row for each kind of breakage: how often it was tried, what failed, and the
figures of version 0.1.0 beside it. Below the table each failure says how it came about.
Small runs on the embedded Fashion-MNIST images are broken and started again until they
end. They have to end as an undisturbed run does, bit for bit: weights, histories,
indexes, predictions, measures, TensorBoard's scalars, and no file too much.

Full disks and read-only folders need root on Linux, which mounts small disks. `--keep`
keeps the folders of what failed.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.breaking import damage, kills, processes, starved, steady, together
from benchmarks.breaking.jobs import Arena
from benchmarks.breaking.tally import Row, Tally


def bad_inputs(arena: Arena, tries: int) -> Tally:
    """Run the tests of bad inputs, each of them a try."""
    del tries
    tally, tests = Tally(), processes.ROOT / "tests" / "bad_inputs"
    if not tests.exists():
        tally.note = "no such tests here"
        return tally
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "--no-header", str(tests)]
    done = subprocess.run(
        command, cwd=processes.ROOT, capture_output=True, text=True, check=False
    )
    for failed in re.findall(r"^(?:FAILED|ERROR) (.*)", done.stdout, re.M):
        tally.failed(failed[:150], kind="wrong", how="pytest")
    counts = re.findall(r"(\d+) (?:passed|failed|error)", done.stdout)
    tally.tries = sum(map(int, counts))
    return tally


#: Version 0.1.0's figures were measured in the same ways on two shared cores.
ROWS = {
    "kills": Row(
        "SIGKILL at random moments, restarted to the end, ten jobs",
        ("64", "7: 6 left over, 1 TensorBoard"),
        64,
        kills.random_kills,
    ),
    "study": Row(
        "SIGKILL of reproduce at random moments, restarted to the end",
        ("–", "–"),
        20,
        kills.study_kills,
    ),
    "operations": Row(
        "SIGKILL before and after each file operation, restarted to the end",
        ("96", "40 left over"),
        200,
        kills.operation_kills,
    ),
    "interrupts": Row(
        "SIGINT in work", ("30", "7 unclear end"), 12, kills.interruptions
    ),
    "early": Row(
        "SIGINT in the first three seconds of real commands",
        ("(above)", "1 traceback"),
        18,
        kills.early_interruptions,
    ),
    "signals": Row("SIGTERM, SIGHUP", ("13", "0"), 13, kills.terminations),
    "full_disk": Row(
        "disk full, training, several sizes; space given back, restarted",
        ("11", "11 traceback"),
        11,
        starved.full_disk_training,
    ),
    "full_disk_others": Row(
        "disk full, compute_robustness, evaluate, report, sweep",
        ("8", "6 traceback"),
        8,
        starved.full_disk_others,
    ),
    "file_size": Row("file-size limit", ("4", "3 traceback"), 8, starved.file_size),
    "read_only": Row(
        "read-only folder", ("10", "3 traceback"), 11, starved.read_only_folders
    ),
    "removed": Row(
        "folder removed during the run",
        ("5", "5: 3 traceback, 2 another sentence"),
        5,
        starved.removed_folders,
    ),
    "equal": Row(
        "two equal trainings into one directory",
        ("8", "8 traceback"),
        8,
        together.equal_trainings,
    ),
    "vanilla": Row(
        "two trainings that need the same vanilla run",
        ("6", "6 traceback"),
        6,
        together.shared_vanilla,
    ),
    "seeds": Row(
        "three seeds started together, real commands",
        ("1", "1: two of three die"),
        1,
        together.three_seeds,
    ),
    "others": Row(
        "two trainings with other settings into one directory",
        ("6", "5 one result is gone"),
        6,
        together.other_settings,
    ),
    "output": Row(
        "two equal compute_robustness with one output file",
        ("4", "2 traceback"),
        4,
        together.one_output,
    ),
    "output_others": Row(
        "the same with another attack",
        ("4", "3 both fail, nothing is left"),
        4,
        together.one_output_other_attacks,
    ),
    "evaluations": Row(
        "two evaluate of one run, --shift beside --attacks",
        ("3", "0"),
        3,
        together.two_evaluations,
    ),
    "bad_inputs": Row(
        "bad inputs, all commands",
        ("501", "94: 78 traceback, 15 accepted, 1 hangs"),
        1,
        bad_inputs,
    ),
    "index": Row(
        "flips, cuts and zeros in an index",
        ("1,000", "0"),
        1000,
        damage.damaged_indexes,
    ),
    "shard": Row("the same in a shard", ("800", "0"), 800, damage.damaged_shards),
    "predictions": Row(
        "the same in predictions, clean, corrupted, attacked",
        ("12,450", "1 undetected"),
        12_000,
        damage.damaged_predictions,
    ),
    "bits": Row(
        "single bits of predictions.npz, all of them",
        ("58,240", "2 undetected"),
        10**9,
        damage.flipped_predictions,
    ),
    "foreign": Row(
        "an index with other content, verified",
        ("14", "12 accepted"),
        14,
        damage.foreign_indexes,
    ),
    "determinism": Row(
        "the same seed in other processes: hash seed, locale, time zone",
        ("2", "0"),
        3,
        steady.same_seed,
    ),
    "threads": Row(
        "levels with other numbers of threads",
        ("3", "0"),
        4,
        steady.threads,
    ),
    "batches": Row(
        "levels by batch size and order, four attacks",
        ("23", "0"),
        1,
        steady.batches,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="rows, separated by commas; default: all")
    parser.add_argument("--tries", type=int, help="default: each row's own number")
    parser.add_argument("--keep", action="store_true", help="keep failed folders")
    parser.add_argument("--list", action="store_true", help="print the rows' names")
    args = parser.parse_args()
    names = args.only.split(",") if args.only else list(ROWS)
    if unknown := set(names) - set(ROWS):
        parser.error(f"there is no row {unknown.pop()}; choose from {', '.join(ROWS)}")
    if args.list:
        for name, row in ROWS.items():
            print(f"{name:18} {row.tries:>13,} tries  {row.title}")
        return
    folder = Path(tempfile.mkdtemp(prefix="breaking-"))
    arena, failures = Arena(folder), []
    print("| what | tries | failures | 0.1.0: tries | failures | seconds |")
    print("|---|---|---|---|---|---|", flush=True)
    try:
        for name in names:
            row, started = ROWS[name], time.monotonic()
            try:
                tally = row.breaks(arena, args.tries or row.tries)
            except Exception as error:  # the other rows should still be printed
                tally = Tally(note=f"could not be tried: {error!r:.300}")
            failures += [(name, *failure) for failure in tally.failures]
            seconds = time.monotonic() - started
            cells = (row.title, f"{tally.tries:,}", tally.summary(), *row.before)
            print(f"| {' | '.join(cells)} | {seconds:.0f} |", flush=True)
    finally:
        if args.keep:
            print(f"\nthe folders are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{len(failures)} failures")
    for name, kind, how in failures:
        print(f"- {name}, {kind}: {how}")


if __name__ == "__main__":
    main()
