"""Classes of this package that a saved Keras model may hold: Keras knows them at once.

Keras finds such a class in its registry, where `register_keras_serializable` puts it
when its module is imported. Importing the package imports neither Keras nor these
modules. So, as soon as Keras is there, its registry gets something light in place of
each class, which imports the class when a model that holds it is loaded.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from ar_adals_tf.lazy import load

#: The registered classes, as `lazy.load` takes them.
CLASSES = (
    "ar_adals_tf.evaluation.level_model:LevelTemperatureModel",
    "ar_adals_tf.methods.adafocal:AdaFocal",
    "ar_adals_tf.methods.adversarial:FGSMTraining",
    "ar_adals_tf.methods.adversarial:PGDTraining",
    "ar_adals_tf.methods.adversarial:TRADES",
    "ar_adals_tf.methods.ccat:CCAT",
    "ar_adals_tf.metrics:ExpectedCalibrationError",
)


def register_when_keras_is_there() -> None:
    """Register `CLASSES` with Keras: now, or when Keras is imported."""
    if "keras" in sys.modules:
        _register(sys.modules["keras"])
    elif not any(isinstance(finder, _AfterKeras) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterKeras())


class _Later:
    """Stands for a class in Keras's registry until its module is imported."""

    def __init__(self, reference: str) -> None:
        self._reference = reference

    def from_config(self, config: dict[str, Any]) -> Any:
        """Return an object of the class, whose module takes this one's place."""
        return load(self._reference).from_config(config)


def _register(keras: ModuleType) -> None:
    with suppress(AttributeError):  # an old Keras, or one that is not whole
        registry = keras.saving.get_custom_objects()
        for reference in CLASSES:
            name = reference.partition(":")[2]
            registry.setdefault(f"ar_adals_tf>{name}", _Later(reference))


class _AfterKeras(MetaPathFinder):
    """Finds Keras as Python does, and registers when it has been imported."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname != "keras":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        loader: Any = spec.loader
        execute = loader.exec_module

        def then_register(module: ModuleType) -> None:
            execute(module)
            _register(module)

        loader.exec_module = then_register
        return spec
