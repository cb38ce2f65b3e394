"""What the parent of all broken processes has imported before it forks them.

Importing starts no thread and runs no operation of TensorFlow, so a fork is safe. The
modules of the commands are left out, because each defines its flags anew.
"""

import threading

import tqdm

from ar_adals_tf.process.quiet import quiet_libraries

with quiet_libraries():
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    import benchmarks.breaking.hooks
    import benchmarks.breaking.processes  # noqa: F401

# Otherwise every killed process would leave a semaphore of its progress bars.
tqdm.tqdm.set_lock(threading.RLock())
