"""Find how easily an adversary flips each image: the robustness index.

For a dataset's images under any Keras model that takes images in [0, 1]:

    python -m ar_adals_tf.compute_robustness --model_file=vanilla.keras
        --dataset=cifar10 --split=train --output_file=train.npz

For arrays, in an .npz file with `images` (N, H, W, C), uint8 or floats in [0, 1], and
optionally `labels` (N,) and `ids` (N,), give --arrays=my_images.npz instead. Arrays of
another range, such as tables, need --bounds; tokens need --at=embedding, the layer
whose output is to move.

Several GPUs or machines share the work with --strategy=mirrored or multi_worker.
--dry_run attacks a few images and says how long all of them will take. A computation
that was interrupted goes on where it was, and an index that is there already is found.
`RobustnessIndex.load` reads the result.
"""

from absl import flags

from ar_adals_tf import command_line
from ar_adals_tf.errors import InputError


def main() -> None:
    """Compute the index that the flags describe."""
    from ar_adals_tf.examples.arrays import read_examples
    from ar_adals_tf.experiment.runs import load_model
    from ar_adals_tf.index.distances import resolved, space_from
    from ar_adals_tf.indexing import check_place, compute_once, estimate_cost

    model_file, arrays, split = command_line.values("model_file", "arrays", "split")
    bounds, at = command_line.values("bounds", "at")
    path, dry_run = command_line.values("output_file", "dry_run")
    if not model_file:
        raise InputError("--model_file is missing; give the .keras file to attack")
    if arrays and (idle := command_line.given("split", *command_line.names("data"))):
        raise InputError(
            f"--{next(iter(idle))} means nothing beside --arrays, which are attacked "
            "as they are; leave one of them out"
        )
    space = space_from(bounds, at)
    if space and not arrays:
        raise InputError(
            "--bounds and --at are for --arrays; images of a dataset lie in [0, 1]; "
            "leave them out"
        )
    if not dry_run:
        if not path:
            raise InputError("--output_file is missing; give the .npz file to write")
        check_place(path, [model_file, arrays])
    model = load_model(model_file)
    dataset = arrays or command_line.values("dataset")[0]
    attack, given = command_line.chosen_attack(dataset)
    settings = {**space, **given}
    if arrays:
        images = read_examples(arrays, "file for --arrays", unit=not space)
        settings = resolved(images, settings)
    else:
        images = command_line.load_splits(split)[split]
    if dry_run:
        print(estimate_cost(model, images, attack, **settings))
        return
    compute_once(path, model, images, attack, **settings)


command_line.define("data", "attack")
command_line.define_strategy_flags()
command_line.define_import_flag()
flags.DEFINE_string("model_file", None, "The .keras file of the model to attack.")
flags.DEFINE_enum(
    "split", "train", ["train", "validation", "test"], "Which images of the dataset."
)
flags.DEFINE_string("arrays", None, "An .npz file of images, instead of a dataset.")
flags.DEFINE_string(
    "bounds",
    None,
    "Where the inputs of --arrays may lie: two numbers such as 0,255; data, each "
    "feature's own range in the file; or none, for --attack=margin, ddn or deepfool. "
    "The default is [0, 1], and none with --at.",
)
flags.DEFINE_string(
    "at",
    None,
    "The layer whose output the attack moves in the place of the input, such as an "
    "embedding. Distances are then in its unit.",
)
flags.DEFINE_string("output_file", None, "The index to write, an .npz file.")
flags.DEFINE_bool("dry_run", False, "Only say how long it will take.")
flags.adopt_module_key_flags(command_line)

if __name__ == "__main__":
    command_line.run(main)
