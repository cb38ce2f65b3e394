"""The form of `compression.json`: what a compressed model is made of, and its costs."""

from ar_adals_tf.bounds import Bound
from ar_adals_tf.forms.form import File, maybe, number, record, text
from ar_adals_tf.forms.measures import at_least_0, count, summary

COMPRESSION = File(
    record(
        {
            "kind": text(["compression"]),
            "title": text(),
            "run_digest": text(),
            "sparsity": number(Bound(least=0, below=1)),
            "format": text(["float32", "float16", "int8"]),
            "epochs": count,
            "learning_rate": maybe(at_least_0),
            "digest": text(),
        },
        {
            "costs": record(
                {},
                {
                    "hardware": text(),
                    "batch_size": count,
                    "repeats": count,
                    "seconds_per_image": at_least_0,
                    "file_bytes": count,
                    "gzip_bytes": count,
                    "peak_bytes": maybe(count),
                },
            ),
            "runs_temperature": record(
                {}, {"temperature": number(Bound(above=0)), "clean": summary}
            ),
        },
    ),
    "remove the folder and compress the run again",
)
