"""The form of `export.json`: what exported models are, and how they were checked."""

from ar_adals_tf.bounds import Bound
from ar_adals_tf.forms.form import (
    File,
    anything,
    list_of,
    mapping,
    number,
    record,
    text,
)
from ar_adals_tf.forms.measures import at_least_0, count

EXPORT = File(
    record(
        {
            "title": text(),
            "dataset": text(),
            "classes": list_of(text(), least=2),
            "digest": text(),
            "temperature": number(Bound(above=0)),
            "input_range": list_of(anything),
            "formats": mapping(
                record(
                    {
                        "file": text(),
                        "images": count,
                        "largest_difference": at_least_0,
                        "ece": at_least_0,
                        "ece_in_keras": at_least_0,
                    },
                    {"sha256": text()},
                )
            ),
        }
    ),
    "remove the folder and export again",
)
