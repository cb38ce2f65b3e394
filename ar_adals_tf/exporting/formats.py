"""The formats that a model is exported in: one entry each.

A format is written by what Keras or TensorFlow have for it, and read by the runtime
that serves it. All have one input, `image`, and one output, `probabilities`, by name,
and take batches of any size. This module loads no TensorFlow.
"""

import importlib.util
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ar_adals_tf.errors import InputError
from ar_adals_tf.process.endings import first_line
from ar_adals_tf.process.quiet import quiet_libraries

if TYPE_CHECKING:
    import keras

#: From inputs `(B, ...)` in the model's own range to probabilities `(B, Z)`.
Predict: TypeAlias = Callable[[np.ndarray], np.ndarray]

INPUT, OUTPUT = "image", "probabilities"


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        file: The name of its file or folder.
        title: What people call it.
        write: Writes a Keras model to a path.
        read: Returns what predicts by the file at a path, in the format's own runtime.
        usage: Lines of Python that predict `images`.
        needs: Packages that this one does not bring along.
    """

    file: str
    title: str
    write: Callable[["keras.Model", Path], None]
    read: Callable[[Path], Predict]
    usage: str
    needs: tuple[str, ...] = ()


def parse_formats(names: Sequence[str]) -> list[str]:
    """Return the names of formats, each once, after it is clear that they can be made.

    Raises:
        InputError: If one is unknown, or if the packages that it needs are absent.

    Example:
        >>> parse_formats(["keras", "tflite", "keras"])
        ['keras', 'tflite']
    """
    names = list(dict.fromkeys(names))
    if not names or not set(names) <= set(FORMATS):
        raise InputError(
            f"--format must be among {', '.join(FORMATS)}; received "
            f"{','.join(names) or 'none'}; such as --format=keras,tflite"
        )
    for name in names:
        needs = FORMATS[name].needs
        absent = [need for need in needs if importlib.util.find_spec(need) is None]
        if absent:
            raise InputError(
                f"--format={name} needs the packages {' and '.join(needs)}, and "
                f"{' and '.join(absent)} cannot be found; install them with "
                f"pip install 'ar_adals_tf[{name}]', or leave {name} out"
            )
    return names


def written(name: str, model: "keras.Model", path: Path) -> None:
    """Write a model in a format.

    Raises:
        InputError: If the model has a part that the format cannot have.
    """
    with _said(name, "exported as"):
        FORMATS[name].write(model, path)


def read(name: str, path: Path) -> Predict:
    """Return what predicts by a file of a format.

    Raises:
        InputError: If the format's runtime cannot use it.
    """
    with _said(name, "read again as"):
        predict = FORMATS[name].read(path)

    def asked(images: np.ndarray) -> np.ndarray:
        with _said(name, "asked as"):
            return predict(images)

    return asked


@contextmanager
def _said(name: str, doing: str) -> Iterator[None]:
    """Turn what converters and runtimes raise into one sentence."""
    try:
        with warnings.catch_warnings(), quiet_libraries():
            warnings.simplefilter("ignore")  # LiteRT will move to another package
            yield
    except (InputError, OSError):
        raise
    except Exception as error:  # they raise whatever their parts raise
        reason = first_line(error)
        raise InputError(
            f"the model cannot be {doing} {FORMATS[name].title} ({reason}); leave "
            f"{name} out of --format"
        ) from error


def _named(model: "keras.Model") -> "keras.Model":
    """Return a model whose input and output keep their names in other formats."""
    import keras

    image = keras.Input(model.input_shape[1:], name=INPUT)
    named = keras.Model({INPUT: image}, {OUTPUT: model(image)}, name=model.name)
    return named


def _write_keras(model: "keras.Model", path: Path) -> None:
    model.save(path)


def _read_keras(path: Path) -> Predict:
    import tensorflow as tf

    from ar_adals_tf.experiment.runs import load_model

    model = load_model(path)
    function = tf.function(lambda x: model(x, training=False), reduce_retracing=True)
    return lambda images: function(tf.constant(images)).numpy()


def _write_saved_model(model: "keras.Model", path: Path) -> None:
    _named(model).export(path, format="tf_saved_model", verbose=False)


def _read_saved_model(path: Path) -> Predict:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))

    def predict(images: np.ndarray) -> np.ndarray:
        # A signature alone does not keep the variables of the model alive.
        serve = loaded.signatures["serving_default"]
        return serve(**{INPUT: tf.constant(images)})[OUTPUT].numpy()

    return predict


def _write_tflite(model: "keras.Model", path: Path) -> None:
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        _write_saved_model(model, Path(folder, "model"))
        converter = tf.lite.TFLiteConverter.from_saved_model(f"{folder}/model")
        path.write_bytes(converter.convert())


def _read_tflite(path: Path) -> Predict:
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(str(path), num_threads=os.cpu_count())
    interpreter.allocate_tensors()
    run = interpreter.get_signature_runner("serving_default")
    return lambda images: run(**{INPUT: images})[OUTPUT]


def _write_onnx(model: "keras.Model", path: Path) -> None:
    import tensorflow as tf
    import tf2onnx

    named = _named(model)
    image = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name=INPUT)
    traced = tf.function(lambda image: named({INPUT: image}, training=False))
    graph, ends = _constant(traced.get_concrete_function(image))
    tf2onnx.convert.from_graph_def(
        graph,
        input_names=ends[:1],
        output_names=ends[1:],
        tensors_to_rename=dict(zip(ends, (INPUT, OUTPUT), strict=True)),
        output_path=str(path),
    )


def _constant(function: Any) -> tuple[Any, list[str]]:
    """Return the graph of a traced function with all that it has captured inside.

    What Keras exports to ONNX itself asks for captured tensors that are no variables,
    such as what a Normalization layer has adapted to, as further inputs.

    Returns:
        The graph, and the names of its input and its output.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    frozen = convert_variables_to_constants_v2(function, lower_control_flow=False)
    captured = {
        inner.op.name: np.asarray(outer) for outer, inner in frozen.graph.captures
    }
    graph = frozen.graph.as_graph_def()
    for node in graph.node:
        if node.name in captured:
            value = tf.make_tensor_proto(captured[node.name])
            kept = tf.compat.v1.NodeDef(name=node.name, op="Const")
            kept.attr["dtype"].type = value.dtype
            kept.attr["value"].tensor.CopyFrom(value)
            node.CopyFrom(kept)
    ends = [one for one in frozen.inputs if one.op.name not in captured]
    return graph, [one.name for one in (*ends, *frozen.outputs)]


def _read_onnx(path: Path) -> Predict:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    )
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


FORMATS: dict[str, Format] = {
    "keras": Format(
        "calibrated.keras",
        "a Keras model",
        _write_keras,
        _read_keras,
        'model = keras.models.load_model("calibrated.keras", compile=False)\n'
        "probabilities = model.predict(images)",
    ),
    "savedmodel": Format(
        "saved_model",
        "a TensorFlow SavedModel",
        _write_saved_model,
        _read_saved_model,
        'model = tf.saved_model.load("saved_model")\n'
        'serve = model.signatures["serving_default"]\n'
        'probabilities = serve(image=images)["probabilities"]',
    ),
    "tflite": Format(
        "calibrated.tflite",
        "a LiteRT (TensorFlow Lite) model",
        _write_tflite,
        _read_tflite,
        'interpreter = tf.lite.Interpreter("calibrated.tflite")\n'
        'serve = interpreter.get_signature_runner("serving_default")\n'
        'probabilities = serve(image=images)["probabilities"]',
    ),
    "onnx": Format(
        "calibrated.onnx",
        "an ONNX model",
        _write_onnx,
        _read_onnx,
        'session = onnxruntime.InferenceSession("calibrated.onnx")\n'
        'probabilities, = session.run(["probabilities"], {"image": images})',
        needs=("tf2onnx", "onnxruntime"),
    ),
}
