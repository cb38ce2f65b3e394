"""Soft labels by id, against a dictionary in plain Python."""

import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf.errors import InputError
from ar_adals_tf.levels import RobustnessLevels
from ar_adals_tf.pipeline import soft_labels, with_levels
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing

N, Z, R = 60, 5, 4
P = np.array([0.4, 0.6, 0.8, 1.0])


class Example:
    """Examples whose single feature is their position, with ids in another order."""

    def __init__(self, text_ids=True):
        rng = np.random.default_rng(1)
        numbers = rng.permutation(1000)[:N]
        self.ids = (
            np.array([b"train.tfrecord-00000-of-00001__%d" % i for i in numbers])
            if text_ids
            else numbers
        )
        self.x = np.arange(N, dtype=np.float32)[:, None]
        self.labels = rng.integers(0, Z, N)
        self.weights = rng.uniform(size=N).astype(np.float32)
        self.index = self.index_with(rng.uniform(size=N))

    def index_with(self, distances):
        order = np.random.default_rng(2).permutation(N)
        return RobustnessIndex(
            self.ids[order], distances[order].astype(np.float32), np.ones(N, bool)
        )

    def expected(self, index, p=P):
        """Return the soft labels by position: sort, cut into R parts, look up by id."""
        level = {}
        by_distance = sorted(zip(index.distances, index.ids, strict=True))
        for rank, (_, i) in enumerate(by_distance):
            level[i] = rank * R // N
        soft = np.empty((N, Z))
        for position, (i, label) in enumerate(zip(self.ids, self.labels, strict=True)):
            own = p[level[i]]
            soft[position] = (1 - own) / (Z - 1)
            soft[position, label] = own
        return soft


@pytest.fixture
def example(request):
    """Examples with ids of text, or as a test asks."""
    return Example(getattr(request, "param", True))


#: For what depends on the ids' type; all else has ids of text.
BOTH_IDS = pytest.mark.parametrize(
    "example", [True, False], ids=["bytes", "integers"], indirect=True
)


@pytest.fixture
def smoothing():
    smoothing = AdaptiveLabelSmoothing(Z, R)
    smoothing.p = P
    return smoothing


def slices(*columns):
    return tf.data.Dataset.from_tensor_slices(columns)


def mapped(data, function):
    """Map a lambda without AutoGraph, which would look for its source in vain."""
    return data.map(tf.autograph.experimental.do_not_convert(function))


def assert_soft(dataset, expected):
    """Check a batched dataset of `(position, soft label, ...)`, in whatever order."""
    seen = []
    for x, y, *_ in dataset:
        assert y.dtype == tf.float32
        positions = x.numpy()[:, 0].astype(int)
        np.testing.assert_allclose(y, expected[positions], atol=1e-6)
        seen += positions.tolist()
    assert sorted(seen) == list(range(N))
    return seen


def labels_as(form, labels):
    return {
        "classes": labels,
        "int32": labels.astype(np.int32),
        "uint8": labels.astype(np.uint8),
        "column": labels[:, None],
        "one-hot": np.eye(Z, dtype=np.float32)[labels],
        "integer one-hot": np.eye(Z, dtype=np.int64)[labels],
    }[form]


LABELS = ["classes", "int32", "uint8", "column", "one-hot", "integer one-hot"]


@pytest.mark.parametrize("form", LABELS)
@pytest.mark.parametrize("when", ["batched before", "batched after", "dropping rests"])
@BOTH_IDS
def test_soft_labels_follow_their_example(form, when, example, smoothing):
    data = slices(example.ids, example.x, labels_as(form, example.labels)).shuffle(N, 3)
    if when == "batched before":
        data = soft_labels(data.batch(7), smoothing, example.index)
    elif when == "dropping rests":
        # N is a multiple of Z: batches of Z classes that could be one-hot labels
        data = soft_labels(data.batch(Z, True), smoothing, example.index)
    else:
        data = soft_labels(data, smoothing, example.index).batch(7)
    assert_soft(data, example.expected(example.index))


@pytest.mark.parametrize("form", LABELS)
@pytest.mark.parametrize("when", ["batched before", "batched after"])
def test_one_level_needs_neither_index_nor_id(form, when):
    example = Example()
    smoothing = AdaptiveLabelSmoothing(Z, 1)
    smoothing.p = [0.7]
    data = slices(example.x, labels_as(form, example.labels)).shuffle(N, 3)
    if when == "batched before":
        data = soft_labels(data.batch(7), smoothing)
    else:
        data = soft_labels(data, smoothing).batch(7)
    assert_soft(data, example.expected(example.index, np.full(R, 0.7)))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("batch", [None, 7])
@pytest.mark.parametrize("inputs", ["images", "several"])
def test_one_level_leaves_ids_alone(weighted, batch, inputs, example):
    """Data that were made for several levels serve one level as they are."""
    images = np.repeat(example.x[:, None], 2, axis=1)
    x = {"a": images, "b": example.x} if inputs == "several" else images
    columns = (example.ids, x, example.labels) + (example.weights,) * weighted
    data = slices(*columns)
    data = data if batch is None else data.batch(batch)
    smoothing = AdaptiveLabelSmoothing(Z, 1)
    smoothing.p = [0.7]
    soft = soft_labels(data, smoothing)
    soft = soft.batch(7) if batch is None else soft

    def own(x, *rest):
        return x["b"] if inputs == "several" else x[:, 0], *rest

    assert_soft(mapped(soft, own), example.expected(example.index, np.full(R, 0.7)))
    measured = with_levels(data if batch else data.batch(7), Z, None)
    labels = np.concatenate([label for _, label, _, _ in measured])
    np.testing.assert_array_equal(labels, example.labels)


@BOTH_IDS
def test_dictionaries_as_tfds_makes_them(example, smoothing):
    columns = {"tfds_id": example.ids, "image": example.x, "label": example.labels}
    data = tf.data.Dataset.from_tensor_slices(columns).shuffle(N, 5).batch(8)
    expected = example.expected(example.index)
    soft = soft_labels(data, smoothing, example.index)
    assert len(soft.element_spec) == 2
    assert_soft(soft, expected)
    weighted = {**columns, "sample_weight": example.weights}
    data = tf.data.Dataset.from_tensor_slices(weighted).batch(8)
    soft = soft_labels(data, smoothing, example.index)
    assert_soft(soft, expected)
    weights = np.concatenate([w for _, _, w in soft.as_numpy_iterator()])
    np.testing.assert_array_equal(weights, example.weights)
    renamed = tf.data.Dataset.from_tensor_slices(
        {"key": example.ids, "a": example.x, "b": -example.x, "y": example.labels}
    ).batch(8)
    keys = {"id_key": "key", "label_key": "y"}
    soft = soft_labels(renamed, smoothing, example.index, **keys)
    for x, y in soft:
        assert sorted(x) == ["a", "b"]
        np.testing.assert_array_equal(x["a"], -x["b"])
        positions = x["a"].numpy()[:, 0].astype(int)
        np.testing.assert_allclose(y, expected[positions], atol=1e-6)
    one_level = AdaptiveLabelSmoothing(Z, 1)
    assert_soft(soft_labels(data, one_level), np.eye(Z)[example.labels])


def test_tuples_may_have_several_inputs_and_weights(example, smoothing):
    data = slices(
        example.ids,
        {"a": example.x, "b": (example.x, -example.x)},
        example.labels,
        example.weights,
    ).batch(8)
    expected = example.expected(example.index)
    start = 0
    for x, y, weight in soft_labels(data, smoothing, example.index):
        stop = start + len(y)
        np.testing.assert_array_equal(x["a"], example.x[start:stop])
        np.testing.assert_array_equal(x["b"][1], -example.x[start:stop])
        np.testing.assert_allclose(y, expected[start:stop], atol=1e-6)
        np.testing.assert_array_equal(weight, example.weights[start:stop])
        start = stop
    assert start == N


def test_a_new_p_reaches_every_batch_of_the_next_epoch(example, smoothing):
    data = slices(example.ids, example.x, example.labels).shuffle(N).batch(4)
    soft = soft_labels(data, smoothing, example.index).prefetch(4)
    for p in (P, P[::-1] * 0.9, np.full(R, 0.3)):
        smoothing.p = p
        assert_soft(soft, example.expected(example.index, p))


@BOTH_IDS
def test_new_levels_take_effect_in_the_same_pipeline(example, smoothing, rng):
    levels = RobustnessLevels(example.index, R)
    data = slices(example.ids, example.x, example.labels).shuffle(N).batch(4)
    soft = soft_labels(data, smoothing, levels)
    assert_soft(soft, example.expected(example.index))
    new = example.index_with(rng.uniform(size=N))
    # the new index may list the ids in any order
    order = rng.permutation(N)
    new = RobustnessIndex(new.ids[order], new.distances[order], new.found[order])
    levels.update(new)
    assert levels.index is new
    expected = example.expected(new)
    assert np.abs(expected - example.expected(example.index)).max() > 0.1
    assert_soft(soft, expected)
    levels.update(example.index)
    assert_soft(soft, example.expected(example.index))


def test_levels_are_only_exchanged_for_the_same_ids(example):
    index = example.index
    levels = RobustnessLevels(index, R)
    fewer = RobustnessIndex(index.ids[3:], index.distances[3:], index.found[3:])
    with pytest.raises(InputError, match="received 57 ids, 3 of the old ones are"):
        levels.update(fewer)
    assert levels.index is index


@BOTH_IDS
def test_lookup_tells_unknown_ids_apart(example):
    index = example.index
    levels = RobustnessLevels(index, R)
    unknown = b"nobody" if index.ids.dtype.kind == "S" else -7
    ids = [index.ids[5], unknown, index.ids[0]]
    result = levels.lookup(tf.constant(ids)).numpy()
    assert result.tolist() == [index.levels(R)[5], -1, index.levels(R)[0]]


def test_validation_examples_carry_class_level_and_weight(example):
    data = slices(
        example.ids, example.x, np.eye(Z)[example.labels], example.weights
    ).batch(7)
    levels = RobustnessLevels(example.index, R)
    columns = zip(*with_levels(data, Z, levels).as_numpy_iterator(), strict=True)
    x, label, level, weight = (np.concatenate(c) for c in columns)
    by_id = dict(zip(example.index.ids, example.index.levels(R), strict=True))
    np.testing.assert_array_equal(x, example.x)
    np.testing.assert_array_equal(label, example.labels)
    np.testing.assert_array_equal(level, [by_id[i] for i in example.ids])
    np.testing.assert_array_equal(weight, example.weights)
    one = with_levels(slices(example.x, example.labels).batch(7), Z, None)
    for _, label, level, weight in one:
        assert label.dtype == level.dtype == tf.int64
        np.testing.assert_array_equal(level, np.zeros(len(label)))
        np.testing.assert_array_equal(weight, np.ones(len(label)))


# Refusals


@BOTH_IDS
def test_missing_ids_are_counted_and_named_before_training(example, smoothing):
    index = example.index
    keep = ~np.isin(index.ids, example.ids[[10, 20, 30]])
    partial = RobustnessIndex(index.ids[keep], index.distances[keep], index.found[keep])
    data = slices(example.ids, example.x, example.labels)
    message = (
        "3 of 60 examples are not in the robustness index, the first is "
        f"{example.ids[10].item()!r}"
    )
    for dataset in (data, data.batch(7)):
        with pytest.raises(InputError) as error:
            soft_labels(dataset, smoothing, partial)
        assert message in str(error.value)
        with pytest.raises(InputError) as error:
            with_levels(dataset, Z, RobustnessLevels(partial, R))
        assert message in str(error.value)
    unchecked = soft_labels(data, smoothing, partial, check_ids=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not in the robustness"):
        list(unchecked)


def test_ids_of_another_kind_are_all_missing(smoothing):
    text, numbers = Example(True), Example(False)
    for example, index in ((text, numbers.index), (numbers, text.index)):
        data = slices(example.ids, example.x, example.labels).batch(7)
        with pytest.raises(InputError, match="ids") as error:
            soft_labels(data, smoothing, index)
        assert "\n" not in str(error.value)
        with pytest.raises(InputError, match="ids"):
            with_levels(data, Z, RobustnessLevels(index, R))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.repeat(), "repeats without end"),
        (lambda d: mapped(d, lambda i, x, y: (x, y)), r"must be \(id, x, y\)"),
        (lambda d: mapped(d, lambda i, x, y: (i, x, y, y, y)), r"must be \(id, x, y\)"),
        (lambda d: mapped(d, lambda i, x, y: x), r"must be \(id, x, y\)"),
        (lambda d: mapped(d, lambda i, x, y: {"image": x, "label": y}), "no 'tfds_id'"),
        (lambda d: mapped(d, lambda i, x, y: {"tfds_id": i, "image": x}), "no 'label'"),
        (
            lambda d: mapped(d, lambda i, x, y: (i, x, tf.zeros([8, 8]))),
            "integer classes or one-hot over 5 classes",
        ),
        (
            lambda d: mapped(d, lambda i, x, y: (i, x, tf.one_hot(y, 7))),
            r"one-hot over 5 classes; received a tensor of shape \(7,\)",
        ),
    ],
)
def test_datasets_of_another_form_are_refused(change, message, smoothing):
    example = Example()
    data = change(slices(example.ids, example.x, example.labels))
    with pytest.raises(InputError, match=message) as error:
        soft_labels(data, smoothing, example.index)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [-1, Z])
def test_a_label_that_is_no_class_does_not_pass_silently(wrong, smoothing):
    example = Example()
    labels = np.where(np.arange(N) == 33, wrong, example.labels)
    data = slices(example.ids, example.x, labels).batch(7)
    levels = RobustnessLevels(example.index, R)
    said = f"classes 0 to 4: {wrong}, the first of 1 in 60 examples"
    with pytest.raises(InputError, match=said):
        soft_labels(data, smoothing, levels)
    with pytest.raises(InputError, match=said):
        with_levels(data, Z, levels)
    for dataset in (
        soft_labels(data, smoothing, levels, check_ids=False),
        with_levels(data, Z, levels, check_ids=False),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match="classes 0 to 4"):
            list(dataset)


@pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf])
def test_a_weight_that_means_nothing_does_not_pass_silently(wrong, example, smoothing):
    weights = np.where(np.arange(N) == 5, wrong, example.weights)
    data = slices(example.ids, example.x, example.labels, weights).batch(7)
    soft = soft_labels(data, smoothing, example.index, check_ids=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="a sample weight is neg"):
        for _ in soft:
            pass


def test_levels_and_smoothing_must_agree(smoothing):
    example = Example()
    data = slices(example.ids, example.x, example.labels)
    with pytest.raises(InputError, match="4 robustness levels need an index"):
        soft_labels(data, smoothing)
    with pytest.raises(InputError, match="cut into 3 levels, the smoothing has 4"):
        soft_labels(data, smoothing, RobustnessLevels(example.index, 3))
    with pytest.raises(InputError, match="at most the 60 images"):
        soft_labels(data, AdaptiveLabelSmoothing(Z, 61), example.index)


def test_an_index_may_be_given_for_one_level_too():
    """A sweep over R uses one pipeline; the id is there and must be left out."""
    example = Example()
    smoothing = AdaptiveLabelSmoothing(Z, 1)
    data = slices(example.ids, example.x, example.labels).batch(7)
    assert_soft(soft_labels(data, smoothing, example.index), np.eye(Z)[example.labels])


@pytest.mark.parametrize("form", ["classes", "column", "one-hot", "integer one-hot"])
@pytest.mark.parametrize("batch", [1, Z, None])
@pytest.mark.parametrize("features", [1, Z, 3])
def test_a_vector_of_labels_is_a_batch_if_the_inputs_are(form, batch, features):
    """Without ids, static shapes such as (Z,) mean one thing or the other."""
    x = np.repeat(np.arange(N, dtype=np.float32)[:, None], features, axis=1)
    labels = Example().labels
    data = slices(x, labels_as(form, labels))
    smoothing = AdaptiveLabelSmoothing(Z, 1)
    if batch:
        data = soft_labels(data.batch(batch, drop_remainder=True), smoothing)
    else:
        data = soft_labels(data, smoothing).batch(7)
    assert_soft(data, np.eye(Z)[labels])


def test_a_vector_of_z_floats_is_refused_where_it_can_be_two_things():
    """Z classes as floats, or one one-hot label of an image Z pixels high."""
    labels = Example().labels
    x = np.repeat(np.arange(N, dtype=np.float32)[:, None], 3, axis=1)
    classes = slices(x, labels.astype(np.float32))
    images = tf.zeros([N, Z, 1])
    smoothing = AdaptiveLabelSmoothing(Z, 1)
    static = classes.batch(Z, drop_remainder=True)
    for data in (static, slices(images, np.eye(Z, dtype=np.float32)[labels])):
        with pytest.raises(InputError, match="can be 5 classes or one one-hot label"):
            soft_labels(data, smoothing)
        with pytest.raises(InputError, match="can be 5 classes or one one-hot label"):
            with_levels(data, Z, None)
    # Everything else has one reading.
    integers = mapped(static, lambda x, y: (x, tf.cast(y, tf.int32)))
    for data in (integers, classes.batch(Z), classes.batch(6, drop_remainder=True)):
        assert_soft(soft_labels(data, smoothing), np.eye(Z)[labels])


# Is the index of these examples?


def labelled(example, labels=None, **metadata):
    """The index with the labels of its ids, or with others."""
    index, by_id = example.index, dict(zip(example.ids, example.labels, strict=True))
    known = np.array([by_id[i] for i in index.ids]) if labels is None else labels
    return RobustnessIndex(index.ids, index.distances, index.found, metadata, known)


def uses(example, smoothing, index):
    """Soft labels and validation examples, made when they are called."""
    data = slices(example.ids, example.x, example.labels).batch(7)
    return (
        lambda: soft_labels(data, smoothing, index),
        lambda: with_levels(data, Z, RobustnessLevels(index, R)),
    )


@pytest.mark.parametrize("form", LABELS)
def test_an_index_with_the_right_labels_is_taken(form, example, smoothing):
    index = labelled(example)
    data = slices(example.ids, example.x, labels_as(form, example.labels))
    for one in (data.batch(7), data.shuffle(N).batch(7, True)):
        soft_labels(one, smoothing, index)
    assert_soft(soft_labels(data, smoothing, index).batch(7), example.expected(index))


def test_an_index_of_other_labels_is_refused(example, smoothing):
    """One wrong label is named; of shuffled images about 1/Z agree by chance."""
    index = labelled(example)
    labels = index.labels.copy()
    labels[5] = (labels[5] + 1) % Z
    wrong = index.ids[5].item()
    for use in uses(example, smoothing, labelled(example, labels)):
        with pytest.raises(InputError, match="1 of 60 examples have another") as error:
            use()
        assert f"the first is {wrong!r} with {index.labels[5]} instead of" in str(
            error.value
        )
    shuffled = np.random.default_rng(3).permutation(index.labels)
    count = np.sum(shuffled != index.labels)
    for use in uses(example, smoothing, labelled(example, shuffled)):
        with pytest.raises(InputError, match=f"of other images: {count} of 60"):
            use()


def test_an_index_of_another_split_is_refused_where_it_says_so(example, smoothing):
    for split, refused in (
        ("train", (False, True)),
        ("validation", (True, False)),
        ("test", (True, False)),
        ("", (False, False)),
    ):
        index = labelled(example, split=split)
        for use, wrong in zip(uses(example, smoothing, index), refused, strict=True):
            if wrong:
                with pytest.raises(InputError, match=f"of the split '{split}', not of"):
                    use()
            else:
                use()


def test_an_index_of_more_images_is_refused(example, smoothing):
    """Also where it has no labels, and ids that other images have as well."""
    half = slices(example.ids[:30], example.x[:30], example.labels[:30])
    for data in (half, half.batch(7), half.batch(30)):
        with pytest.raises(InputError, match="is of 60 images, .* only 30 of them"):
            soft_labels(data, smoothing, example.index)
        soft_labels(data, smoothing, example.index.subset(example.ids[:30]))
    twice = slices(example.ids, example.x, example.labels).repeat(2).batch(7)
    soft_labels(twice, smoothing, example.index)


# Levels of examples that nothing has ranked yet


def test_undivided_examples_lie_in_level_0_until_they_are_ranked(example, smoothing):
    levels = RobustnessLevels.undivided(example.ids, R, example.labels)
    assert levels.index is None and len(levels) == N
    data = tf.data.Dataset.from_tensor_slices((example.ids, example.x, example.labels))
    soft = soft_labels(data.batch(7), smoothing, levels)

    def found():
        return np.concatenate([y for _, y in soft.as_numpy_iterator()])

    first = example.expected(example.index, np.full(R, P[0]))
    np.testing.assert_allclose(found(), first, atol=1e-6)
    levels.update(example.index)
    assert levels.index is example.index
    np.testing.assert_allclose(found(), example.expected(example.index), atol=1e-6)


def test_undivided_examples_are_recognised_by_their_labels(example, smoothing):
    levels = RobustnessLevels.undivided(example.ids, R, (example.labels + 1) % Z)
    data = tf.data.Dataset.from_tensor_slices((example.ids, example.x, example.labels))
    with pytest.raises(InputError, match=f"{N} of {N} examples have another label"):
        soft_labels(data.batch(7), smoothing, levels)


@pytest.mark.parametrize(
    ("ids", "labels", "num_levels", "message"),
    [
        ([1, 2, 2], None, 2, "ids must be unique"),
        ([1.5, 2.5], None, 2, "ids must be text or whole numbers"),
        ([1, 2], [0], 2, "labels must be 2 integers"),
        ([1, 2], None, 3, "num_levels must be at most the 2"),
    ],
)
def test_undivided_levels_of_what_cannot_be_are_refused(
    ids, labels, num_levels, message
):
    with pytest.raises(InputError, match=message):
        RobustnessLevels.undivided(np.array(ids), num_levels, labels)


def test_rows_of_several_labels_are_no_one_hot_labels():
    x, y = np.zeros((4, 2)), np.array([[1, 1, 0], [0, 1, 1], [0, 0, 0], [1, 0, 0]])
    data = soft_labels((x, y), AdaptiveLabelSmoothing(3, 1))
    with pytest.raises(tf.errors.InvalidArgumentError, match="does not sum to 1"):
        next(iter(data))
