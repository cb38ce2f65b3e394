"""An attack's result: a value that unpacks into three arrays."""

import copy
import dataclasses

import numpy as np
import pytest

from ar_adals_tf.attacks import AttackResult

DISTANCES = np.array([0.25, np.inf], np.float32)
FOUND = np.array([True, False])


def test_it_unpacks_into_its_first_three_arrays():
    images = np.zeros((2, 3))
    result = AttackResult(images, DISTANCES, FOUND, np.array([False, False]))
    adversarial, distances, found = result
    assert adversarial is images and distances is DISTANCES and found is FOUND
    assert not result.found_within_steps.any()


def test_found_within_steps_is_found_unless_given():
    assert AttackResult(None, DISTANCES, FOUND).found_within_steps is FOUND


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, dataclasses.replace])
def test_a_copy_keeps_all_four(copied):
    within = np.array([False, False])
    twin = copied(AttackResult(None, DISTANCES, FOUND, within))
    np.testing.assert_array_equal(twin.found_within_steps, within)
    np.testing.assert_array_equal(list(twin)[1], DISTANCES)


def test_one_array_is_replaced_and_the_others_stay():
    within = np.array([False, False])
    result = AttackResult(np.zeros((2, 3)), DISTANCES, FOUND, within)
    bare = dataclasses.replace(result, adversarial=None)
    assert list(bare)[0] is None and bare.found_within_steps is within
    with pytest.raises(dataclasses.FrozenInstanceError):
        bare.found = FOUND
