"""Choose a setting by validation images, as the paper does by the lowest ECE.

    python -m ar_adals_tf.sweep --dataset=cifar10 --method=ar_adals --param=alpha

trains a run for each of the paper's values (or of --values=0.005,0.01), each in its own
directory under one folder, and writes there

    sweep.json    the values, the measures of every run and their intervals
    sweep.png     the measure that chooses over the values
    chosen.cfg    the settings of the chosen run, a flagfile for
                  python -m ar_adals_tf.train; its folders are given beside it

What is trained already is not trained again. The choice uses only validation images,
after the last epoch. In AdaLS and AR-AdaLS these images also move the soft labels, so
they flatter the choice; --selection_examples=1000 keeps 1,000 of them for the choice
alone. A sweep over num_levels ends with the commands for the paper's Figure 4.

--select_by=nll, brier or smece chooses by another measure. The table has intervals over
the images, and says which values are not significantly worse than the lowest. With
--one_sd the smallest value that is not more than one standard deviation above the
lowest measure is chosen.

The paper's values: label_smoothing 0 to 0.1 by 0.01; alpha .005 .01 .05 .1 for adals
and .005 .01 .05 for ar_adals (ImageNet's adals also .03); num_levels 1 2 4 8 10 16.

These alphas are for the recipe's epochs; with fewer --epochs they grow in proportion.
With --finetune, on your own data and on Fashion-MNIST, alpha times the epochs is 1, 2,
5 (--alpha=auto) and 10, for adals also 20; alpha is at most 0.5.
"""

from pathlib import Path

from absl import flags

from ar_adals_tf import command_line


def main() -> None:
    """Train and compare what the flags say."""
    from ar_adals_tf.training.selection import default_param, sweep

    base = command_line.training_config()
    param, values, folder = command_line.values("param", "values", "output_dir")
    param = param or default_param(base.method)
    folder = Path(folder or f"runs/{base.name}-sweep-{param}")
    apart = ("dataset", "method", "output_dir", "vanilla_dir", param)
    given = command_line.given_settings(*apart)
    sweep(
        base, param, values, folder, given, *command_line.values("select_by", "one_sd")
    )


command_line.define()
command_line.define_import_flag()
flags.DEFINE_enum(
    "param",
    None,
    ["label_smoothing", "alpha", "num_levels"],
    "Which setting varies; the default is what the paper chooses for the method.",
)
flags.DEFINE_list(
    "values",
    None,
    "Its values; the default is the paper's, and its alphas follow the epochs.",
)
flags.DEFINE_enum(
    "select_by", "ece", ["ece", "nll", "brier", "smece"], "What is to be lowest."
)
flags.DEFINE_bool(
    "one_sd",
    False,
    "Choose the smallest value that is not more than one standard deviation above the "
    "lowest measure.",
)
flags.adopt_module_key_flags(command_line)

if __name__ == "__main__":
    command_line.run(main)
