"""Networks: ours by name, those of keras.applications, and models of one's own."""

from ar_adals_tf.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    networks="MODELS Network build check_variant cnn7 resnet101_v1 resnet18_cifar "
    "resnet29_v2 small_cnn study_cnn wide_resnet28_10",
    applications="application_names build_application drawn_from load_weights",
    given="prepared",
)
