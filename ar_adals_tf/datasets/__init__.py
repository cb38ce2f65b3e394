"""The datasets: what they are, how they are split, how their examples are read."""

from ar_adals_tf.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    table="DatasetInfo DATASETS",
    splits="ArraySplit MappedSplit StreamedSplit example_ids",
    division="split_positions",
    records="prepared_builder read_records decode_records",
    loading="load",
)
