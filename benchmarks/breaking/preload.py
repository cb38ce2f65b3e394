"""What the parent of processes has imported before it forks them.

Importing starts no thread and runs no operation of TensorFlow, so a fork is safe. The
modules of the commands are left out, because each defines its flags anew.
"""

import gc
import importlib
import threading

import tqdm

from ar_adals_tf.process.quiet import quiet_libraries

#: What the commands import when they start their work.
IMPORTED = (
    "tensorflow",
    "keras",
    "matplotlib.pyplot",
    "ar_adals_tf.compression.job",
    "ar_adals_tf.evaluation.suite",
    "ar_adals_tf.exporting.job",
    "ar_adals_tf.reporting.page",
    "ar_adals_tf.tour",
    "ar_adals_tf.training.run",
    "ar_adals_tf.training.selection",
    "benchmarks.breaking.hooks",
    "benchmarks.breaking.processes",
)

with quiet_libraries():
    for name in IMPORTED:
        importlib.import_module(name)
    # Its images are then unpacked for all of them.
    importlib.import_module("ar_adals_tf.datasets").load("fashion_mnist_small")

# Otherwise every killed process would leave a semaphore of its progress bars.
tqdm.tqdm.set_lock(threading.RLock())
gc.collect()
gc.freeze()  # so that the forks share this process's memory
