r"""Make a trained run smaller, and measure whether it stays calibrated.

    python -m ar_adals_tf.compress --run_dir=runs/cifar10-ar_adals-0 \
        --sparsity=0.5,0.7,0.9 --formats=float16,int8 --shift --attacks=fgsm,square

makes, in runs/cifar10-ar_adals-0-compressed,

    whole-float32   the run's model
    whole-float16   the same for LiteRT, with weights of 16 bits
    whole-int8      the same, weights and activations of 8 bits
    pruned50-...    half of the weights of each layer 0: the smallest ones
    pruned70-...    and so on

Each folder has the model, `model.keras` or `model.tflite`, and its evaluation on the
run's own test images: accuracy, ECE with interval, NLL, before and after a temperature
of its own, and with the run's temperature, which came before the compression.
compression.json has size, size after gzip, time and memory. Zeros make a file smaller
only if it is compressed, so both sizes are there. `report` takes the folders beside the
run, and shows the ECE against the size.

Kernels of dense layers and convolutions are pruned, each to the same share. A pruned
model is then trained for --epochs more by the run's own method: its loss, its batches,
its soft labels as they were in the end. What the zeros were stays 0.

--shift and --attacks measure as `evaluate` does. Models of LiteRT have no gradient, so
of the attacks only square is for them. What is there already is not made again: a job
that was interrupted goes on, and further --sparsity values join the others.
"""

import inspect

from absl import flags

from ar_adals_tf import command_line


def main() -> None:
    """Compress the run that the flags name."""
    from ar_adals_tf.compression.job import compress
    from ar_adals_tf.errors import InputError
    from ar_adals_tf.evaluation.wanted import refuse_idle_measures

    given = command_line.given(*inspect.signature(compress).parameters)
    if "run_dir" not in given:
        raise InputError("compress needs --run_dir=RUN, a finished run directory")
    refuse_idle_measures(given)
    compress(**given)


command_line.define_import_flag()
command_line.define_test_flags()
flags.DEFINE_string("run_dir", None, "A finished run of one model.")
flags.DEFINE_list(
    "sparsity", ["0.5", "0.7", "0.9"], "Shares of the weights to prune, below 1."
)
flags.DEFINE_list(
    "formats", ["float16", "int8"], "Formats beside float32: float16, int8."
)
flags.DEFINE_integer(
    "epochs", 2, "How long a pruned model is trained on.", lower_bound=0
)
flags.DEFINE_float(
    "learning_rate", None, "Its learning rate; the default is a tenth of the run's."
)
flags.DEFINE_string(
    "output_dir", None, "Where the folders go; the default is RUN-compressed."
)
flags.DEFINE_string(
    "data_dir", None, "Where TensorFlow Datasets keeps its data; default: the run's."
)
flags.adopt_module_key_flags(command_line)

if __name__ == "__main__":
    command_line.run(main)
