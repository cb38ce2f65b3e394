r"""Measure how well a model's confidence agrees with how often it is right.

Measure runs again, or any model of images, or the predictions of any program:

    python -m ar_adals_tf.evaluate --run_dir=runs/cifar10-ar_adals-0
    python -m ar_adals_tf.evaluate --model_file=my.keras --dataset=cifar10 \
        --validation=val.npz --output_dir=runs/mine
    python -m ar_adals_tf.evaluate --predictions=probs.npz --output_dir=runs/theirs

Each writes predictions.npz, metrics.json and figures/ into the folder, which `report`
takes beside others on the same test set. --shift, --ood, --attacks and --footprint
measure more. Their predictions are kept in shift/, ood/ and attacked/, and what is
there is not computed again: --run_dir=runs/mine --shift goes on with an evaluation.
With --run_dir, --limit_examples=N is a quick look at N test images, kept apart in
shift-first-N/ and so on.

--model_file takes a .keras file; no code in it is run. For inference alone (no attacks
but square, no robustness levels) it also takes a .tflite file or a SavedModel folder. A
SavedModel is a program that can read and write files: take one only from people whom
you trust. A model that expects other inputs than [0, 1] needs --model_range=0,255. The
models that are written here take [0, 1]; `export --model_file` writes one of the
model's own range.

--predictions takes labels, and probabilities or logits, and measures what needs no
model: accuracy, ECE with its floor and interval, NLL, Brier score, reliability.

--posthoc=temperature,vector,margin,by_level fits calibrations to the validation images,
saves them as Keras models in posthoc/, and measures them on the clean and the corrupted
test images.

--certify --sigma=0.25 turns the model into its smoothed classifier, which answers by
the votes of noisy copies (Cohen, Rosenfeld and Kolter, 2019), and measures within which
radius its answers provably stay, and how well its confidence is calibrated. A model
that was trained with as much noise (train --noise_sigma) is certified best.
"""

import inspect

from absl import flags

from ar_adals_tf import command_line


def main() -> None:
    """Evaluate what the flags name; what they leave out has `evaluate`'s defaults."""
    from ar_adals_tf.evaluation.suite import evaluate
    from ar_adals_tf.evaluation.wanted import check_flags

    given = command_line.given(*inspect.signature(evaluate).parameters)
    check_flags(given)
    evaluate(**given)


command_line.define("data", "measure")
command_line.define_strategy_flags()
command_line.define_import_flag()
command_line.define_test_flags()
flags.DEFINE_list(
    "run_dir",
    None,
    "A finished run directory, or the folder of an evaluation. Of several, separated "
    "by commas and on one dataset, each corrupted set is made once.",
)
flags.DEFINE_string(
    "model_file",
    None,
    "Any classifier: a .keras file, a .tflite file, or a SavedModel folder. Its test "
    "images are those of --dataset, by default the embedded Fashion-MNIST.",
)
flags.DEFINE_string(
    "predictions",
    None,
    "An .npz file: labels (N), and probabilities or logits (N, Z). It may also have "
    "ids, class_names, and validation_labels with validation_probabilities or "
    "validation_logits, to which the temperature is fitted.",
)
flags.DEFINE_string(
    "output_dir", None, "Where the results of --model_file or --predictions go."
)
flags.DEFINE_string(
    "title", None, "What a report calls the model; default: the file's name."
)
flags.DEFINE_string(
    "validation",
    None,
    "What the temperature of --model_file is fitted to; the model must not have been "
    "trained on it. validation: the dataset's own validation images. Or an .npz file "
    "of images and labels.",
)
flags.DEFINE_string(
    "robustness_index",
    None,
    "An index of the test images, for measures by level; default: the vanilla run's, "
    "or that of --model_file itself, by the attack margin.",
)
flags.DEFINE_string(
    "model_range",
    None,
    "The range of inputs that the model of --model_file expects, such as 0,255, or "
    "data: the numbers as the data have them; the default is 0,1. Strengths of attacks "
    "stay those of images in [0, 1].",
)
flags.DEFINE_list(
    "ood", None, "Out-of-distribution data, such as cifar100 or a folder of pictures."
)
flags.DEFINE_bool("footprint", False, "Measure time, size and memory, also of int8.")
flags.DEFINE_list(
    "posthoc",
    None,
    "Calibrations that are fitted to the validation images, saved as Keras "
    "models, and measured: temperature, vector, margin, by_level. The last one's model "
    "needs import ar_adals_tf before it is loaded.",
)
flags.DEFINE_bool(
    "certify",
    False,
    "Certify test images by randomised smoothing: how far every change of an image "
    "leaves the answer of the smoothed classifier as it is. Votes are kept in "
    "certified/. Another number of copies or images draws them anew.",
)
flags.DEFINE_list(
    "sigma",
    None,
    "Standard deviations of the noise, in the unit of images in [0, 1], such as "
    "0.25,0.5. The default is 0.25.",
)
flags.DEFINE_integer(
    "certify_samples",
    None,
    "Noisy copies of an image whose votes are counted. The paper has 100000; the "
    "default is 1000, with which no radius is above 2.46 sigma.",
)
flags.DEFINE_integer(
    "certify_selection_samples",
    None,
    "Noisy copies that choose the image's class before. The default is 100.",
)
flags.DEFINE_float(
    "certify_alpha",
    None,
    "The chance, at most, that an image's certificate is wrong. The default is 0.001.",
)
flags.DEFINE_integer(
    "certify_images",
    None,
    "How many test images are certified at most, at equal steps through the test set. "
    "The default is 500.",
)
flags.DEFINE_bool(
    "certify_attack",
    False,
    "Attack the smoothed classifier as well: how short a change is that alters its "
    "answer. No certificate should be longer.",
)
flags.adopt_module_key_flags(command_line)

if __name__ == "__main__":
    command_line.run(main)
