"""Our sentences inside of TensorFlow's errors, in real pipelines."""

import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf.autograph import as_written
from ar_adals_tf.errors import InputError
from ar_adals_tf.process.endings import ending
from ar_adals_tf.sentences import in_plain_words, passed_on, require

SAID = "it's wrong in (id, x, y): mend it; the first is"


def checked(values, right):
    """A pipeline that refuses some of its values."""

    @as_written
    def look(value, is_right):
        with tf.control_dependencies([require(is_right, SAID, value)]):
            return tf.identity(value)

    return tf.data.Dataset.from_tensors((values, right)).map(look)


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([1, 7, 8], "7"),
        ([0.5, -2.5, 3.0], "-2.5"),
        ([b"a", b"train__17", b"c"], "train__17"),
    ],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_the_first_value_that_is_wrong_is_named(values, shown, compiled):
    data = checked(values, [True, False, False])
    with pytest.raises(InputError) as error, in_plain_words():
        if compiled:  # as in Keras's training
            tf.function(lambda iterator: next(iterator))(iter(data))
        else:
            list(data)
    assert str(error.value) == f"{SAID} {shown}"
    assert error.value.__suppress_context__


def test_single_values_and_right_ones():
    with pytest.raises(InputError, match="the first is 9$"), in_plain_words():
        list(checked(9, False))
    with in_plain_words():
        assert list(checked([1, 2], [True, True]).as_numpy_iterator())[0].tolist() == [
            1,
            2,
        ]


def test_an_error_in_python_code_of_a_pipeline():
    @passed_on
    def read(number):
        if number == 2:
            raise InputError(f"picture {number} is broken; remove it")
        return number

    data = tf.data.Dataset.range(3).map(
        lambda n: tf.numpy_function(read, [n], tf.int64)
    )
    with pytest.raises(InputError) as error, in_plain_words():
        list(data)
    assert str(error.value) == "picture 2 is broken; remove it"


def test_others_go_on_as_they_are():
    data = tf.data.Dataset.from_tensors(np.zeros(3)).map(
        lambda x: tf.ensure_shape(tf.boolean_mask(x, x == 0), [4])
    )
    with pytest.raises(tf.errors.InvalidArgumentError), in_plain_words():
        list(data)
    with pytest.raises(ZeroDivisionError), in_plain_words():
        raise ZeroDivisionError


def test_a_command_ends_in_the_sentence():
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        list(checked([7], [False]))
    assert ending(error.value) == (2, f"error: {SAID} 7")
