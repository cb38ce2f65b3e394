r"""Export a calibrated classifier to where it is served.

    python -m ar_adals_tf.export --run_dir=runs/cifar10-ar_adals-0 \
        --format=keras,savedmodel,tflite,onnx

writes into export/ of the run

    calibrated.keras     a Keras model without code of this package
    saved_model/         a TensorFlow SavedModel, signature serving_default
    calibrated.tflite    a LiteRT (TensorFlow Lite) model with the same signature
    calibrated.onnx      an ONNX model; needs pip install 'ar_adals_tf[onnx]'
    export.json          classes, input range, temperature, digests, how it was checked
    README.md            how to call each of them

All take batches of any size of `image`, in the range that your own model takes, and
return `probabilities`. The temperature of the run is inside. The probabilities of an
ensemble are averaged. Each model is read again by its own runtime and compared with
the run's on test images, before its file gets its name. What is there already is left
as it is.

Any trained .keras file is calibrated on the validation images of a dataset, which it
must not have been trained on, and then exported:

    python -m ar_adals_tf.export --model_file=my.keras --model_range=0,255 \
        --dataset=cifar10 --output_dir=exported --format=tflite
"""

import inspect

from absl import flags

from ar_adals_tf import command_line


def main() -> None:
    """Export what the flags name."""
    from ar_adals_tf.exporting.job import export

    own = [name for name in inspect.signature(export).parameters if name != "data"]
    export(**command_line.given(*own, *command_line.names("data")))


command_line.define("data")
command_line.define_import_flag()
flags.DEFINE_string("run_dir", None, "A finished run directory.")
flags.DEFINE_string("model_file", None, "The .keras file of any classifier.")
flags.DEFINE_list(
    "format", ["keras"], "Formats to export: keras, savedmodel, tflite, onnx."
)
flags.DEFINE_string(
    "output_dir", None, "Where the models go; the default is export/ in the run."
)
flags.DEFINE_string(
    "model_range",
    None,
    "The range of inputs that the model of --model_file expects, such as 0,255, or "
    "data: the numbers as the data have them; the default is 0,1.",
)
flags.DEFINE_float(
    "tolerance", 1e-5, "By how much a probability of an exported model may differ."
)
flags.adopt_module_key_flags(command_line)

if __name__ == "__main__":
    command_line.run(main)
