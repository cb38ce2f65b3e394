"""Every setting of a run: its meaning, its default and its limits."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from ar_adals_tf.attacks.table import ATTACKS
from ar_adals_tf.automatic import LEAST_EXAMPLES
from ar_adals_tf.bounds import MOST_SIGMA, SEEDS, Bound
from ar_adals_tf.datasets.generic import recipe_of
from ar_adals_tf.datasets.table import DATASETS, Recipe
from ar_adals_tf.experiment import completion
from ar_adals_tf.experiment.declaration import (
    Declaration,
    Default,
    from_recipe,
    own_setting,
    setting,
)
from ar_adals_tf.methods.table import METHODS, Method, adversarial_methods
from ar_adals_tf.models.variants import ATTENTIONS, NORMS

#: More than anyone needs, so that a slip of the hand is noticed before any work.
MANY, MOST = 1_000_000, 1_000_000_000


@dataclass(frozen=True)
class Settings:
    """The settings of one run, as `ar_adals_tf.experiment.config` completes them.

    Each field declares its setting; see `ar_adals_tf.experiment.declaration`.
    """

    dataset: str = own_setting(
        f"The data. With a recipe: {', '.join(DATASETS)}. Without: a folder of class "
        "folders of pictures (photos/cat/1.jpg, or photos/train/cat/1.jpg and "
        "photos/test/cat/2.jpg), an .npz file with x_train, y_train and maybe x_test, "
        "y_test, x_validation, y_validation and class_names, or the name of any image "
        "classification dataset of TensorFlow Datasets, such as beans. "
        "fashion_mnist_small comes with the package. What TensorFlow Datasets lacks on "
        "disk is downloaded.",
        default="fashion_mnist_small",
        group="data",
    )
    image_size: str | None = setting(
        "The size that pictures of a folder or of TensorFlow Datasets get: a side such "
        "as 64, or height,width, or height,width,channels.",
        default=Default(
            "their own, if they have one up to 224 x 224, else 224, 128, 64 or 32"
        ),
        group="data",
        new=True,
    )
    input_range: str | None = setting(
        "The range of the numbers in an .npz file, such as 0,255. The model sees it as "
        "0 to 1.",
        default=Default(
            "0,255 for images of whole numbers, 0,1 for images of floats, and for "
            "tables each column's own"
        ),
        group="data",
        new=True,
    )
    split_names: str | None = setting(
        "Which splits of a folder or of a dataset of TensorFlow Datasets train, "
        "validate and test, such as train=extra,test=val. What is not there is divided "
        "from the training examples: a fifth, at most 10,000.",
        default=Default("those that are called so"),
        group="data",
        new=True,
    )
    data_digest: str | None = own_setting(
        "Another one means that the data have changed.", group="recorded", new=True
    )
    method: str = own_setting(
        "How the classifier is trained.", default="ar_adals", choices=METHODS
    )
    seed: int = own_setting(
        "Seed of the initial weights, the shuffling and the augmentation.",
        default=0,
        bound=SEEDS,
        changes="seed",
    )
    split_seed: int = setting(
        "Seed of the random division into training and validation images. Runs with "
        "different --seed can share one division and one vanilla model.",
        default=0,
        bound=SEEDS,
        group="data",
    )
    output_dir: str = own_setting(
        "The run directory.",
        default=Default("runs/<dataset>-<method>-<seed>", ""),
        changes="nothing",
    )
    vanilla_dir: str | None = own_setting(
        "Run directory of the vanilla model whose robustness ranks the images. The "
        "model is trained if it is absent.",
        default=Default("<dataset>-vanilla-0 beside the run"),
        changes="nothing",
    )
    data_dir: str | None = setting(
        "Where TensorFlow Datasets keeps its data.",
        default=Default(
            "the environment variable TFDS_DATA_DIR, or ~/tensorflow_datasets"
        ),
        changes="nothing",
        group="data",
    )
    model: str = setting(
        "The network: the name of one of ours, such as resnet29_v2; the name of one of "
        "keras.applications, such as MobileNetV2, with a new top and without weights; "
        "or a .keras file, whose weights are the start of the training, whether it was "
        "trained before or not.",
        default=from_recipe("model"),
    )
    weights_file: str | None = setting(
        "A file of weights to start from, for a network of a name. Those of "
        "keras.applications take weights without the top (..._notop.h5). Nothing is "
        "downloaded.",
        new=True,
    )
    model_range: str | None = setting(
        "The range of inputs that the model of a .keras file expects, such as 0,255. "
        "data: the numbers as the data have them, each column of a table in its own "
        "range. A layer in front of it takes images in [0, 1] there. Distances and "
        "strengths of attacks stay those of images in [0, 1].",
        default=Default("0,1", None),
        new=True,
    )
    finetune: bool = setting(
        "Calibrate the trained model of a .keras file by a few epochs from its "
        "weights, by any --method. Its own robustness gives the levels. The vanilla "
        "run is the model as it is. The recipe is then 10 epochs of Adam at 1e-4, "
        "batches of 128, alpha 0.2. The model must not have been trained on what are "
        "validation images here: on images that it knows its confidence looks right.",
        default=False,
        new=True,
    )
    model_digest: str | None = setting(
        "The first 16 digits of the SHA-256 of the file that the weights start from.",
        new=True,
        group="recorded",
    )
    epochs: int = setting(
        "Number of epochs. The recipe's schedule is stretched to it. Only the vanilla "
        "run of --finetune has 0, which is its default.",
        default=from_recipe("epochs"),
        bound=Bound(least=0, most=MANY),
    )
    batch_size: int = setting(
        "Global batch size.",
        default=from_recipe("batch_size"),
        bound=Bound(least=1, most=MANY),
    )
    learning_rate: float = setting(
        "Base learning rate, which the recipe's schedule multiplies.",
        default=from_recipe("learning_rate"),
        bound=Bound(above=0),
    )
    schedule: str = setting(
        "How the learning rate moves. constant: it stays at --learning_rate.",
        default="recipe",
        choices=("recipe", "constant"),
    )
    augmentation: str = setting(
        "How the training images are varied. none: they stay as they are. "
        "shift_and_flip: shifts by up to a tenth of the side, and mirror images.",
        default="recipe",
        choices=("recipe", "none", "shift_and_flip"),
    )
    dropout: float = setting(
        "Share of the features that are dropped before the last layer.",
        default=0.0,
        bound=Bound(least=0, below=1),
    )
    noise_sigma: float = own_setting(
        "Standard deviation of Gaussian noise on the training inputs, in the unit of "
        "images in [0, 1], for models that evaluate --certify certifies. Validation "
        "and test inputs have none, nor has the training of the vanilla model whose "
        "robustness ranks the images.",
        default=0.0,
        bound=Bound(least=0, most=MOST_SIGMA),
        new=True,
    )
    norm: str = setting(
        "How a ResNet-18 or ResNet-29 v2 normalises. batch: over the batch. group: "
        "each image by itself, its channels in up to 32 groups. layer: each image as a "
        "whole.",
        default=NORMS[0],
        choices=NORMS,
        new=True,
    )
    attention: str = setting(
        "What weighs the channels of the residual branches of a ResNet-18 or ResNet-29 "
        "v2. se: squeeze and excitation, with a reduction of 16.",
        default=ATTENTIONS[0],
        choices=ATTENTIONS,
        new=True,
    )
    num_levels: int | None = own_setting(
        "Number R of robustness levels.",
        default=Default(
            "10; fewer for data without a recipe, if a level would have fewer than "
            f"{LEAST_EXAMPLES} validation examples",
            lambda recipe, method: recipe.num_levels,
        ),
        bound=Bound(least=1, most=MANY),
        needs="by_robustness",
    )
    alpha: str | None = own_setting(
        "Learning rate of the smoothing, Eq. 3: a number such as 0.005, or a schedule "
        "such as 0.001,60:0.05 (0.05 from epoch 60 on, counted from 0), or auto, which "
        "is 5 / epochs and at most 0.5.",
        default=Default(
            "the recipe's for the method; it changes with the epochs, to 1 at most, so "
            "that alpha times the epochs stays; auto for data without a recipe",
            lambda recipe, method: recipe.alpha[
                "ar_adals" if method.by_robustness else "adals"
            ],
        ),
        needs="adaptive",
    )
    label_smoothing: float | None = own_setting(
        "Degree eps of --method=ls.",
        default=from_recipe("label_smoothing"),
        bound=Bound(least=0, below=1),
        needs="smoothed",
    )
    attack: str | None = own_setting(
        "How the distance to another class is found.",
        default=Default(
            "the paper's, cw; ddn for data without a recipe; margin with "
            "--vanilla=none",
            lambda recipe, method: recipe.attack,
        ),
        choices=ATTACKS,
        needs="by_robustness",
        group="attack",
    )
    attack_settings: dict[str, Any] = own_setting(
        "The attack's settings that are not its defaults.",
        default=Default("the attack's", {}),
        needs="by_robustness",
        group="attack",
    )
    refresh_epochs: list[int] = own_setting(
        "On-the-fly AR-AdaLS: epochs such as 65,130, counted from 0. Before each of "
        "them the training and validation images are attacked again, with the model in "
        "training. recipe: the dataset's epochs. Until the first of them the vanilla "
        "model's levels hold, or with --vanilla=none one level.",
        default=Default("none; with --vanilla=none 4, 14, 24 and so on", ()),
    )
    levels_from: str | None = own_setting(
        "What the levels are cut from. robustness: the vanilla model's distances. own: "
        "the distances of the model in training, by --attack=margin unless another is "
        "given; --vanilla=none says the same. The others are controls: the vanilla "
        "model's confidence or loss, or chance.",
        default="robustness",
        choices=completion.LEVELS_FROM,
        needs="by_robustness",
    )
    method_settings: dict[str, float] = own_setting(
        "The settings of the method's loss or transform, and of adversarial training.",
        default=Default("the method's", {}),
    )
    adversarial_training: str | None = own_setting(
        "Adversarial training on top of another --method, such as ar_adals. Attacked "
        "images keep the method's soft labels; with ccat these fade towards uniform.",
        default=Default("none"),
        choices=adversarial_methods,
    )
    ensemble_size: int = own_setting(
        "Number of members to train, with seeds from --seed upwards, in the folders "
        "member_0, member_1, ... of the run directory. Probabilities are averaged.",
        default=Default(
            "1, or 5 for ar_adals_of_ensemble",
            lambda recipe, method: 5 if method.joint else 1,
        ),
        bound=Bound(least=1, most=1000),
    )
    validation_examples: int | None = setting(
        "Size of the validation set.",
        default=Default(
            "10 % of the training images; for ImageNet half of its validation images; "
            "for data without a recipe a fifth, at most 10,000"
        ),
        bound=Bound(least=0, most=MOST),
        group="data",
    )
    selection_examples: int = own_setting(
        "Number of images that are held out of the validation set and measured at the "
        "end. Settings chosen by them are not chosen by images that moved the soft "
        "labels.",
        default=0,
        bound=Bound(least=0, most=MOST),
    )
    limit_examples: int | None = setting(
        "Use at most this number of images of every split, for a quick look.",
        bound=Bound(least=1, most=MOST),
        group="data",
    )
    num_bins: int = setting(
        "Number of equal-width confidence bins of the expected calibration error.",
        default=15,
        bound=Bound(least=1, most=10_000),
        group="measure",
    )
    mixed_precision: str = setting(
        "Number format of the layers' computations. none: float32.",
        default="none",
        choices=("none", "float16", "bfloat16"),
    )
    deterministic: bool = setting(
        "Allow only kernels that give the same bits every time, on a GPU too. Slower.",
        default=False,
    )
    tensorboard: bool = setting(
        "Write TensorBoard logs into the run.", default=True, changes="nothing"
    )
    verbose: bool = setting("Show progress.", default=True, changes="nothing")

    @property
    def kind(self) -> Method:
        """The method's entry of `METHODS`."""
        return METHODS[self.method]

    @property
    def own_levels(self) -> bool:
        """Whether there is no vanilla model: the model in training makes the levels."""
        return self.levels_from == completion.OWN

    @property
    def recipe(self) -> Recipe:
        """The recipe that the settings which are not given come from."""
        recipe = recipe_of(self.dataset, self.image_size)
        return recipe.finetuning() if self.finetune else recipe

    @property
    def as_given(self) -> bool:
        """Whether the run is the model of a file as it is: nothing is trained."""
        return self.finetune and not self.epochs

    @property
    def vanilla_levels(self) -> bool:
        """Whether the levels need a vanilla model; a control such as chance counts."""
        return self.kind.by_robustness and not self.own_levels

    @property
    def needs_vanilla(self) -> bool:
        """Whether the run is made from another one, the vanilla run.

        Its model is attacked, or is what is fine-tuned and compared with.
        """
        return self.vanilla_levels or (self.finetune and not self.as_given)


#: The declaration of every setting, in the order of `Settings`'s fields.
DECLARATIONS: dict[str, Declaration] = {
    field.name: field.metadata["declaration"] for field in dataclasses.fields(Settings)
}

#: The settings that the runs of one group share: those that only repeat a run with
#: another seed, or change nothing, are left out.
GROUP_SETTINGS = tuple(n for n, d in DECLARATIONS.items() if d.changes == "result")

#: The settings that say which data a run has, apart from `dataset`: arguments of
#: `datasets.load`.
OF_THE_DATA = tuple(
    n for n, d in DECLARATIONS.items() if d.group in ("data", "none") and n != "dataset"
)
