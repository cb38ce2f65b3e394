"""See in a few minutes what AR-AdaLS does, without any download.

    python -m ar_adals_tf.quickstart

trains four classifiers on the 5,000 Fashion-MNIST images that come with the package,
with hard labels, label smoothing, AdaLS and AR-AdaLS. It measures their calibration on
clean and on corrupted test images, prints the comparison and writes a report of it,
runs/quickstart/report/index.html. What is there already is not computed again.
"""

from pathlib import Path

from absl import flags

from ar_adals_tf import command_line


def main() -> None:
    """Give the tour that the flags ask for."""
    from ar_adals_tf.tour.tour import take_tour

    names = ("output_dir", "seed", "epochs", "limit_examples")
    folder, *settings = command_line.values(*names)
    take_tour(Path(folder), *settings)


flags.DEFINE_string("output_dir", "runs/quickstart", "Where everything is written.")
flags.DEFINE_integer("seed", 0, "Initial weights and shuffling.", lower_bound=0)
flags.DEFINE_integer("epochs", None, "Number of epochs; the default is 20.", 1)
flags.DEFINE_integer(
    "limit_examples", None, "At most this many images of each split.", lower_bound=20
)

if __name__ == "__main__":
    command_line.run(main)
