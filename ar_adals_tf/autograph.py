"""How functions enter a `tf.data` pipeline."""

import tensorflow as tf

#: Decorator for the functions that `Dataset.map` and `filter` take. AutoGraph finds
#: nothing to convert in them. It would also read the source files of a program that
#: runs, and hide an InputError inside an error of its own.
as_written = tf.autograph.experimental.do_not_convert
