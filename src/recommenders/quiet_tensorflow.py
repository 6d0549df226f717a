"""TensorFlow as ``tf``, without the banner that no setting of its own silences, and without warnings.

It warns when functions are compiled again and again, which trainings with other options need.
"""

import contextlib
import os
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextlib.contextmanager
def _stderr_closed() -> Iterator[None]:
    """Drop what C++ code writes to file descriptor 2; exceptions still pass."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


with _stderr_closed():
    import tensorflow as tf

tf.get_logger().setLevel("ERROR")

__all__ = ["tf"]
