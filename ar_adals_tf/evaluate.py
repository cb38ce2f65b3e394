"""Measure how well a model's confidence agrees with how often it is right.

Of a run, again:

    python -m ar_adals_tf.evaluate --run_dir=runs/cifar10-ar_adals-0

or of anyone's Keras model of images in [0, 1], on a dataset's test images:

    python -m ar_adals_tf.evaluate --model_file=my.keras --dataset=cifar10 \
        --output_dir=runs/mine

Either writes predictions.npz, metrics.json and figures/ into the folder. With
--robustness_index=FILE.npz, an index of the test images, everything is measured for
each robustness level as well; a run's own index is found by itself.

--shift adds the corrupted test images (CIFAR-10-C, CIFAR-100-C, ImageNet-C, or the
same corruptions made here), --ood=cifar100,svhn_cropped foreign ones. Predictions are
kept in the folder's shift/ and ood/, and what is there already is not computed again.

--attacks=fgsm,pgd adds the test images under CleverHans's attacks on the true label, at
--epsilons=0,4,8,12,16 over 255, with predictions kept in attacked/. Of an ensemble the
averaged probabilities are attacked. A robustness index of the test images under the
run's own model, robustness/cw/test.npz in the run, adds the success of CW-L2 over L2
budgets; python -m ar_adals_tf.compute_robustness makes it.

--footprint measures inference time, size and memory, as float32 and as int8.

With --limit_examples all this is a quick look at so many images, kept apart in
shift-first-N/, ood-first-N/ and so on.
"""

import dataclasses
from pathlib import Path
from typing import Any

from absl import flags

from ar_adals_tf import command_line
from ar_adals_tf.errors import InputError

FLAGS = command_line.FLAGS


def main() -> None:
    """Evaluate what the flags name."""
    from ar_adals_tf.evaluation import under_attack
    from ar_adals_tf.evaluation.measures import measure, saved_temperature
    from ar_adals_tf.evaluation.predictions import Predictor
    from ar_adals_tf.evaluation.results import describe_run, write_results
    from ar_adals_tf.experiment.runs import (
        digest_run,
        find_test_index,
        load_model,
        load_models,
        member_folders,
        saved_config,
    )
    from ar_adals_tf.files import read_json, writable_folder
    from ar_adals_tf.outputs import num_classes
    from ar_adals_tf.robustness import RobustnessIndex
    from ar_adals_tf.training.run import load_splits

    if bool(FLAGS.run_dir) == bool(FLAGS.model_file):
        raise InputError(
            "evaluate needs either --run_dir=RUN or --model_file=FILE.keras; received "
            + ("both" if FLAGS.run_dir else "neither")
        )
    if FLAGS.attacks:
        under_attack.parse_epsilons(FLAGS.epsilons, FLAGS.attacks)
    num_levels, num_bins = 10, FLAGS.num_bins
    data_dir = FLAGS.data_dir
    division = (FLAGS.split_seed, FLAGS.validation_examples)
    if FLAGS.run_dir:
        folder = Path(FLAGS.run_dir)
        config = saved_config(folder)
        if FLAGS.data_dir:
            config = dataclasses.replace(config, data_dir=FLAGS.data_dir)
        num_levels = config.num_levels or num_levels
        if not FLAGS["num_bins"].present:
            num_bins = config.num_bins
        data_dir = config.data_dir
        division = (config.split_seed, config.validation_examples)
        split = load_splits(config, ("test",))["test"]
        model_file, title = folder, config.title
        models = load_models(folder)
        temperature = saved_temperature(folder)
        index = find_test_index(config)
    else:
        if not FLAGS.output_dir:
            raise InputError(
                "--model_file needs --output_dir, a folder for the results"
            )
        folder = writable_folder(FLAGS.output_dir, "--output_dir")
        split = command_line.load_splits("test")["test"]
        model_file, title = Path(FLAGS.model_file), Path(FLAGS.model_file).stem
        models = [load_model(model_file)]
        index, temperature = None, None
    if FLAGS.robustness_index:
        index = RobustnessIndex.load(FLAGS.robustness_index)
        index.verify(digest=split.digest())
    if (classes := num_classes(models[0])) != split.info.num_classes:
        raise InputError(
            f"{model_file} tells {classes} classes apart, {split.dataset} has "
            f"{split.info.num_classes}; choose the model's own --dataset"
        )
    predict = Predictor(models)
    predictions = predict(split)
    metrics = measure(predictions, num_bins, index, num_levels, temperature)
    if FLAGS.run_dir and (folder / "metrics.json").exists():
        metrics = read_json(folder / "metrics.json") | metrics
    write_results(folder, predictions, metrics, title)
    print(describe_run(title, metrics))
    common = {"identity": digest_run(model_file), "temperature": temperature}
    if FLAGS.shift:
        _shift(predict, split, folder, num_bins, data_dir, division, common)
    if FLAGS.ood:
        _ood(predict, predictions, split, folder, data_dir, common)
    if FLAGS.attacks:
        by_level = {"index": index, "num_levels": num_levels, "num_bins": num_bins}
        _attacks(models, predictions, split, folder, common | by_level)
    if FLAGS.footprint:
        if FLAGS.run_dir:
            files = [f / "model.keras" for f in member_folders(config, folder)]
            train = load_splits(config, ("train",))["train"]
        else:
            files = [model_file]
            train = command_line.load_splits("train")["train"]
        measured = {"num_bins": num_bins, "temperature": temperature}
        _footprint(models, files, predictions, split, train, folder, measured)
    print(f"written to {folder}")


def _shift(
    predict: Any,
    split: Any,
    folder: Path,
    num_bins: int,
    data_dir: str | None,
    division: tuple[int, int | None],
    common: dict[str, Any],
) -> None:
    from ar_adals_tf.datasets.corrupted import find_source, types_of
    from ar_adals_tf.evaluation.shift import evaluate_shift

    types = FLAGS.shift_types or list(types_of(split.dataset))
    severities = [int(s) for s in FLAGS.severities]
    name, split = _folder("shift"), _part(split)
    source = find_source(
        split,
        FLAGS.shift_source,
        types,
        severities,
        data_dir=data_dir,
        split_seed=division[0],
        validation_examples=division[1],
    )
    found = evaluate_shift(
        predict,
        split,
        folder / name,
        types,
        severities,
        source=source,
        num_bins=num_bins,
        **common,
    )
    _keep(folder, name, found)
    print(f"corrupted images: {source.name}, {len(types)} types: {', '.join(types)}")
    for key, values in found["overall"].items():
        print(
            f"  mean over {len(values['types'])} types ({key}) and severities "
            f"{', '.join(map(str, severities))}: accuracy {values['accuracy']:.1%}, "
            f"ECE {values['ece']:.2%}, NLL {values['nll']:.3f}, Brier "
            f"{values['brier']:.3f}".replace("%", " %")
        )


def _ood(
    predict: Any,
    predictions: Any,
    split: Any,
    folder: Path,
    data_dir: str | None,
    common: dict[str, Any],
) -> None:
    from ar_adals_tf.evaluation.ood import evaluate_ood
    from ar_adals_tf.files import read_json

    limit, name = FLAGS.limit_examples, _folder("ood")
    found = evaluate_ood(
        predict,
        predictions,
        split,
        FLAGS.ood,
        folder / name,
        data_dir=data_dir,
        limit_examples=limit,
        **common,
    )
    before = read_json(folder / "metrics.json").get(name, {})
    _keep(folder, name, before | found)
    for other, scores in found.items():
        print(
            f"{other}: AUROC {scores['auroc']:.3f}, AUPR {scores['aupr']:.3f}, FPR at "
            f"95 % recall {scores['fpr_at_95_recall']:.3f} "
            f"({scores['num_examples']} images, by entropy)"
        )


def _attacks(
    models: list[Any],
    predictions: Any,
    split: Any,
    folder: Path,
    common: dict[str, Any],
) -> None:
    from ar_adals_tf.attacks.table import BOUNDED_TITLES
    from ar_adals_tf.evaluation import under_attack
    from ar_adals_tf.evaluation.results import describe_measures
    from ar_adals_tf.experiment.runs import own_test_index

    part = _part(split)
    found = under_attack.evaluate_attacks(
        models,
        part,
        predictions.first(len(part)),
        folder / _folder("attacked"),
        FLAGS.attacks,
        under_attack.parse_epsilons(FLAGS.epsilons, FLAGS.attacks),
        own_index=own_test_index(folder, models[0]) if len(models) == 1 else None,
        **common,
    )
    _keep(folder, _folder("attacks"), found)
    for name, by_epsilon in found["by_attack"].items():
        for epsilon, measures in by_epsilon.items():
            if epsilon != "0":
                title = f"{BOUNDED_TITLES[name]} at {epsilon}/255"
                print(f"{title}: {describe_measures(measures)}")
    if len(models) > 1:
        print("attacked: the averaged probabilities of the ensemble")


def _footprint(
    models: list[Any],
    files: list[Path],
    predictions: Any,
    split: Any,
    train: Any,
    folder: Path,
    measured: dict[str, Any],
) -> None:
    from ar_adals_tf.evaluation.footprint import (
        CALIBRATION_IMAGES,
        FORM_TITLES,
        measure_footprint,
    )
    from ar_adals_tf.evaluation.results import describe_measures

    name, part = _folder("footprint"), _part(split)
    images = next(iter(train.batches(CALIBRATION_IMAGES)))[1].numpy()
    clean = predictions.first(len(part))
    found = measure_footprint(
        models, files, part, clean, images, folder / name, **measured
    )
    _keep(folder, name, found)
    print(f"{found['hardware']}; batches of {found['batch_size']}")
    for form, costs in found["forms"].items():
        peak = costs["peak_bytes"]
        memory = f"{peak / 1e6:.1f} MB" if peak is not None else "unknown"
        print(
            f"{FORM_TITLES[form]}: "
            f"{1000 * costs['seconds_per_image']:.3f} ms an image, "
            f"file {costs['file_bytes'] / 1e6:.2f} MB, memory {memory}; "
            f"{describe_measures(costs)}"
        )


def _keep(folder: Path, name: str, found: dict[str, Any]) -> None:
    from ar_adals_tf.files import read_json, write_json

    path = folder / "metrics.json"
    write_json(path, read_json(path) | {name: found})


def _folder(name: str) -> str:
    """Return where results go; those of a quick look lie apart from a run's own."""
    limit = FLAGS.limit_examples
    return f"{name}-first-{limit}" if FLAGS.run_dir and limit else name


def _part(split: Any) -> Any:
    """Return the images to be measured: the split, or its beginning."""
    from ar_adals_tf.datasets.splits import ArraySplit

    limit = FLAGS.limit_examples
    if not (FLAGS.run_dir and limit):
        return split
    if not isinstance(split, ArraySplit):
        raise InputError(
            "--limit_examples with --run_dir does not work on streamed images; train "
            "with --limit_examples instead"
        )
    arrays = (split.ids[:limit], split.images[:limit], split.labels[:limit])
    return ArraySplit(split.dataset, split.name, split.info, *arrays)


command_line.define_data_flags()

command_line.define_strategy_flags()

command_line.define_measure_flags()

flags.DEFINE_string("run_dir", None, "A finished run directory.")

flags.DEFINE_string("model_file", None, "Anyone's .keras file.")

flags.DEFINE_string("output_dir", None, "Where --model_file's results go.")

flags.DEFINE_string(
    "robustness_index", None, "Index of the test images, for measures by level."
)

flags.DEFINE_bool("shift", False, "Evaluate on corrupted test images as well.")

flags.DEFINE_list(
    "shift_types",
    None,
    "Types of corruption, such as fog,contrast; the default is the paper's list for "
    "the dataset, for other datasets all of them.",
)

flags.DEFINE_list("severities", ["1", "2", "3", "4", "5"], "Severities, 1 to 5.")

flags.DEFINE_enum(
    "shift_source",
    "auto",
    ["auto", "tfds", "published", "generated"],
    "Where corrupted images come from. tfds: TensorFlow Datasets, downloaded if need "
    "be. published: the authors' .npy files in CIFAR-100-C/ of --data_dir. generated: "
    "made here. auto: one of the first two if all of it is on disk, else made here.",
)

flags.DEFINE_list(
    "ood", None, "Foreign datasets, whose test images are predicted: cifar100,..."
)

flags.DEFINE_list(
    "attacks",
    None,
    "Evaluate under attacks as well: fgsm, pgd (10 steps of a quarter of the strength, "
    "random start), in the L-infinity norm, on the true label.",
)

flags.DEFINE_list(
    "epsilons", ["0", "4", "8", "12", "16"], "Strengths of --attacks, over 255."
)

flags.DEFINE_bool(
    "footprint",
    False,
    "Measure inference time, file size and memory as well, as float32 and quantised to "
    "int8, which writes footprint/int8.tflite.",
)

flags.adopt_module_key_flags(command_line)

if __name__ == "__main__":
    command_line.run(main)
