"""Train a classifier that knows how sure it is, and measure its calibration.

This command does the whole job of the paper, one method at a time:

    python -m ar_adals_tf.train --dataset=cifar10 --method=ar_adals

It trains the vanilla model. It attacks the model's training, validation and test images
to learn how easily each is flipped. It trains AR-AdaLS with soft labels by robustness
level and evaluates it. What is there already is found and used. With --vanilla=none
there is one training: after some epochs the model ranks its own images, and later
again. All results are in a run directory:

    config.json        every setting, versions and seeds
    inputs.json        of your own arrays: what became 0 and 1 in the model's inputs
    model.keras        the model; it returns logits
    history.csv        one row an epoch: losses, accuracies, each level's soft label
    smoothing.json     the soft labels at the end
    predictions.npz    labels and probabilities of the clean test images
    temperature.json   the temperature fitted on the validation images
    calibrated.keras   the model with this temperature; it returns probabilities
    metrics.json       accuracy, ECE, NLL, Brier and mean confidence: of the test
                       images, by level, with the temperature, of the validation images
    figures/           reliability diagram, robustness levels, soft labels
    tensorboard/       the history for TensorBoard

With --ensemble_size=5, member_0/ to member_4/ are such directories, and the run's own
predictions are the mean of theirs. --members takes finished runs as members. With
--refresh_epochs or --vanilla=none, robustness/epoch_65/ and the like keep the index of
each refresh; new_levels in history.csv is 1 in an epoch that began with one.

--dataset takes your own data as well: a folder of class folders of pictures, an .npz
file, or any image classification dataset of TensorFlow Datasets; see docs/data.md:

    python -m ar_adals_tf.train --dataset=photos

Settings that are left out come from the dataset's recipe. A finished command says so
and changes nothing. An interrupted command goes on after its last whole epoch. Try it
in a minute, without any download:

    python -m ar_adals_tf.train --limit_examples=500 --epochs=2 --attack=margin

--model takes a network's name, one of keras.applications such as MobileNetV2, or a
.keras file of your own. A classifier that is trained already is calibrated by a few
more epochs; its before and after are two runs:

    python -m ar_adals_tf.train --model=my.keras --finetune --dataset=cifar10

Settings can stand in a file: --flagfile=flags/cifar10/ar_adals.cfg. After a sweep,
--flagfile=FOLDER/chosen.cfg --swept=FOLDER copies the chosen run.
"""

from absl import flags

from ar_adals_tf import command_line


def main() -> None:
    """Train as the flags say."""
    from ar_adals_tf.training.run import train

    members, swept = command_line.values("members", "swept")
    train(command_line.training_config(), members=members or (), swept=swept)


command_line.define()
command_line.define_strategy_flags()
command_line.define_members_flag()
command_line.define_swept_flag()
command_line.define_import_flag()

flags.adopt_module_key_flags(command_line)

if __name__ == "__main__":
    command_line.run(main)
