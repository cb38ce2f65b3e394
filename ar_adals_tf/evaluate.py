"""Measure how well a model's confidence agrees with how often it is right.

Of a run, again:

    python -m ar_adals_tf.evaluate --run_dir=runs/cifar10-ar_adals-0

or of anyone's Keras model of images in [0, 1], on a dataset's test images:

    python -m ar_adals_tf.evaluate --model_file=my.keras --dataset=cifar10 \
        --output_dir=runs/mine

Either writes predictions.npz, metrics.json and figures/ into the folder. With
--robustness_index=FILE.npz, an index of the test images, everything is measured for
each robustness level as well; a run's own index is found by itself.
"""

import dataclasses
from pathlib import Path

from absl import flags

from ar_adals_tf import command_line
from ar_adals_tf.errors import InputError

FLAGS = command_line.FLAGS


def main() -> None:
    """Evaluate what the flags name."""
    from ar_adals_tf import evaluation, runs, training
    from ar_adals_tf.files import read_json, writable_folder
    from ar_adals_tf.outputs import num_classes
    from ar_adals_tf.robustness import RobustnessIndex

    if bool(FLAGS.run_dir) == bool(FLAGS.model_file):
        raise InputError(
            "evaluate needs either --run_dir=RUN or --model_file=FILE.keras; received "
            + ("both" if FLAGS.run_dir else "neither")
        )
    num_levels, num_bins = 10, FLAGS.num_bins
    if FLAGS.run_dir:
        folder = Path(FLAGS.run_dir)
        config = training.saved_config(folder)
        if FLAGS.data_dir:
            config = dataclasses.replace(config, data_dir=FLAGS.data_dir)
        num_levels = config.num_levels or num_levels
        if not FLAGS["num_bins"].present:
            num_bins = config.num_bins
        split = training.load_splits(config, ("test",))["test"]
        model_file, title = folder / "model.keras", training.title(config)
        models = runs.load_models(folder)
        temperature = evaluation.saved_temperature(folder)
        index = training.find_test_index(config)
    else:
        if not FLAGS.output_dir:
            raise InputError(
                "--model_file needs --output_dir, a folder for the results"
            )
        folder = writable_folder(FLAGS.output_dir, "--output_dir")
        split = command_line.load_splits("test")["test"]
        model_file, title = Path(FLAGS.model_file), Path(FLAGS.model_file).stem
        models = [training.load_model(model_file)]
        index, temperature = None, None
    if FLAGS.robustness_index:
        index = RobustnessIndex.load(FLAGS.robustness_index)
        index.verify(digest=split.digest())
    if (classes := num_classes(models[0])) != split.info.num_classes:
        raise InputError(
            f"{model_file} tells {classes} classes apart, {split.dataset} has "
            f"{split.info.num_classes}; choose the model's own --dataset"
        )
    predictions = evaluation.Predictor(models)(split)
    metrics = evaluation.measure(predictions, num_bins, index, num_levels, temperature)
    if FLAGS.run_dir and (folder / "metrics.json").exists():
        metrics = read_json(folder / "metrics.json") | metrics
    evaluation.write_results(folder, predictions, metrics, title)
    print(training.describe_all(title, metrics))
    print(f"written to {folder}")


command_line.define_data_flags()
command_line.define_measure_flags()
flags.DEFINE_string("run_dir", None, "A finished run directory.")
flags.DEFINE_string("model_file", None, "Anyone's .keras file.")
flags.DEFINE_string("output_dir", None, "Where --model_file's results go.")
flags.DEFINE_string(
    "robustness_index", None, "Index of the test images, for measures by level."
)
flags.adopt_module_key_flags(command_line)

if __name__ == "__main__":
    command_line.run(main)
