"""One of several inputs, or a layer's output, against models split by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from ar_adals_tf import attacks
from ar_adals_tf.attacks import runner as runners
from ar_adals_tf.attacks.space import moves
from ar_adals_tf.errors import InputError
from ar_adals_tf.robustness import RobustnessIndex
from tests.helpers import assert_same_but_for_rounding, some_quick

RANDOM = np.random.default_rng(0)
N, LENGTH, WORDS, SIZE, Z = 24, 9, 30, 5, 3
LENGTHS = RANDOM.integers(3, LENGTH + 1, N)
TOKENS = np.where(
    np.arange(LENGTH) < LENGTHS[:, None], RANDOM.integers(1, WORDS, (N, LENGTH)), 0
)
IMAGES = RANDOM.random((N, 4, 4, 1)).astype(np.float32)
PLACES = RANDOM.integers(0, 7, (N, 2)).astype(np.int32)
ARRAYS = {"image": IMAGES, "place": PLACES}
QUIET = {"verbose": False, "batch_size": 8}


def spread(model, scale=1.0):
    """Give a model random weights, so that its predictions differ."""
    own = np.random.default_rng(1)
    model.set_weights([scale * own.normal(size=w.shape) for w in model.get_weights()])
    return model


def of_tokens(head=None):
    """Tokens -> masked embedding -> LSTM -> classes."""
    keras.utils.set_random_seed(0)
    tokens = keras.Input((LENGTH,), dtype="int64", name="tokens")
    embedded = keras.layers.Embedding(WORDS, SIZE, mask_zero=True, name="emb")(tokens)
    hidden = keras.layers.LSTM(6)(embedded)
    outputs = keras.layers.Dense(Z, activation=head)(hidden)
    return spread(keras.Model(tokens, outputs), scale=0.5)


def split_by_hand(model):
    """What follows the embedding, with the mask as an input of its own."""
    vectors = keras.Input((LENGTH, SIZE), name="vectors")
    mask = keras.Input((LENGTH,), dtype="bool", name="mask")
    hidden = keras.layers.LSTM(6)(vectors, mask=mask)
    rest = keras.Model([vectors, mask], keras.layers.Dense(Z)(hidden))
    rest.set_weights(model.get_weights()[1:])
    return rest


@pytest.mark.parametrize(
    "name", some_quick(["margin", "ddn", "deepfool", "cw"], "margin", "ddn")
)
def test_a_layer_s_output_moves_as_in_a_model_split_by_hand(name):
    model = of_tokens("softmax")
    bounds = (-9.0, 9.0) if name == "cw" else None
    few = {"cw": {"iterations": 30}, "ddn": {"steps": 50}}
    settings = {"bounds": bounds} | few.get(name, {})
    vectors = model.get_layer("emb").get_weights()[0][TOKENS]
    expected = attacks.prepare(
        name, split_by_hand(model), attack_input="vectors", batch_size=8, **settings
    )([vectors, TOKENS != 0])
    found = attacks.prepare(name, model, at="emb", batch_size=8, **settings)(TOKENS)
    np.testing.assert_array_equal(found.distances, expected.distances)
    assert found.found.mean() > 0.5
    if found.adversarial is not None:
        moved = np.linalg.norm(found.adversarial - vectors, axis=(1, 2))[found.found]
        np.testing.assert_allclose(moved, found.distances[found.found], rtol=1e-4)
        # Padding is masked, so moving it would gain nothing.
        padding = TOKENS == 0
        if name != "cw":  # whose way through tanh rounds
            np.testing.assert_array_equal(found.adversarial[padding], vectors[padding])


@pytest.mark.parametrize("bounds", [(0, 1), (-0.1, 0.1)])
def test_bounds_are_those_of_the_layers_output(bounds):
    """And not of the tokens, whatever they are."""
    message = r"with these bounds the output of layer 'emb' must lie in \["
    with pytest.raises(InputError, match=f"{message}.*; leave bounds out"):
        RobustnessIndex.compute(
            of_tokens(), TOKENS, attack="ddn", at="emb", bounds=bounds, **QUIET
        )


def test_the_prediction_is_that_of_the_whole_model_to_the_last_bit():
    model = of_tokens()
    attack = attacks.prepare("margin", model, at="emb")
    points, held = attack.space.split(TOKENS)
    whole = tf.function(lambda x: model(x, training=False))(TOKENS)
    apart = tf.function(attack.space.logits)(points, held)
    np.testing.assert_array_equal(apart, whole)
    without_mask = attack.space.logits(points, tuple(h + 1 for h in held))
    assert not np.array_equal(without_mask, whole)


def text_model():
    keras.utils.set_random_seed(0)
    vectorize = keras.layers.TextVectorization(
        max_tokens=WORDS, output_sequence_length=LENGTH, name="words"
    )
    vectorize.set_vocabulary([f"w{number}" for number in range(2, WORDS)])
    body = of_tokens()
    whole = keras.Sequential([keras.Input((), dtype="string"), vectorize, body])
    return whole, body


TEXTS = [" ".join(f"w{token}" for token in row if token) for row in TOKENS]


def test_text_is_read_once_and_gives_the_distances_of_its_tokens():
    model, body = text_model()
    tokens = np.asarray(model.layers[0](tf.constant(TEXTS)))
    settings = {"attack": "margin", "at": "emb", **QUIET}
    same = RobustnessIndex.compute(body, tokens, **settings)
    for texts in (TEXTS, np.array(TEXTS), np.array(TEXTS, object)):
        index = RobustnessIndex.compute(model, texts, **settings)
        np.testing.assert_array_equal(index.distances, same.distances)
    with pytest.raises(InputError, match="received text.*at='embedding'"):
        RobustnessIndex.compute(model, TEXTS, attack="ddn", **QUIET)


def test_text_of_open_length_is_refused():
    vectorize = keras.layers.TextVectorization(max_tokens=WORDS)
    vectorize.set_vocabulary(["a", "b"])
    layers = [
        keras.layers.Embedding(WORDS, SIZE, name="emb"),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Dense(Z),
    ]
    model = keras.Sequential([keras.Input((), dtype="string"), vectorize, *layers])
    with pytest.raises(InputError, match="fixed one: give TextVectorization output_s"):
        attacks.prepare("margin", model, at="emb")


@pytest.mark.parametrize("text", [False, True])
def test_compiled_by_xla_it_finds_the_same(text, monkeypatch):
    """Text is not: XLA knows none."""
    model, inputs = (text_model()[0], TEXTS) if text else (of_two_inputs(), ARRAYS)
    plain = attacks.prepare("margin", model, at="emb")(inputs)
    monkeypatch.setattr(runners, "use_xla", lambda: True)
    compiled = attacks.prepare("margin", model, at="emb")(inputs)
    np.testing.assert_allclose(compiled.distances, plain.distances, rtol=1e-2)


def of_two_inputs():
    image = keras.Input((4, 4, 1), name="image")
    place = keras.Input((2,), dtype="int32", name="place")
    flat = keras.layers.Flatten()(image)
    where = keras.layers.Flatten()(keras.layers.Embedding(7, 3, name="emb")(place))
    both = keras.layers.Concatenate(name="join")([flat, where])
    return spread(
        keras.Model({"image": image, "place": place}, keras.layers.Dense(Z)(both))
    )


def plain_distances(kernel, offset, inputs):
    """The distance to the nearest hyperplane of logits inputs @ kernel + offset."""
    logits = inputs.astype(np.float64) @ kernel + offset
    own = logits.argmax(axis=1)
    best = np.full(len(inputs), np.inf)
    for i, c in enumerate(own):
        for k in set(range(kernel.shape[1])) - {c}:
            normal = np.linalg.norm(kernel[:, k] - kernel[:, c])
            best[i] = min(best[i], (logits[i, c] - logits[i, k]) / normal)
    return best


def assert_near(distances, exact, name):
    """DDN may end at the boundary of a class that is not the nearest one."""
    ratio = distances / exact
    assert (ratio > 1 - 1e-4).all()
    assert np.median(ratio) < 1.03 if name == "ddn" else (ratio < 1.01).all()


@pytest.mark.parametrize("name", ["margin", "ddn", "deepfool"])
def test_one_input_moves_and_the_others_are_held(name):
    """The others only add to the logits, example by example: a closed form."""
    model = of_two_inputs()
    table, kernel, bias = model.get_weights()
    held = table[PLACES].reshape(N, -1) @ kernel[16:] + bias
    exact = plain_distances(kernel[:16], held, IMAGES.reshape(N, -1))
    found = attacks.prepare(
        name, model, attack_input="image", bounds=None, batch_size=8
    )(ARRAYS)
    assert found.found.all()
    assert_near(found.distances, exact, name)
    # The embedding of the place may move instead, beside the image.
    exact = plain_distances(
        kernel[16:],
        IMAGES.reshape(N, -1) @ kernel[:16] + bias,
        table[PLACES].reshape(N, -1),
    )
    found = attacks.prepare(name, model, at="emb", batch_size=8)(ARRAYS)
    assert_near(found.distances, exact, name)


def test_batches_and_shards_change_no_held_value():
    model = of_two_inputs()
    settings = {"attack": "ddn", "steps": 20, "verbose": False, "batch_size": 8}
    one = RobustnessIndex.compute(model, ARRAYS, attack_input="image", **settings)
    few = RobustnessIndex.compute(
        model, ARRAYS, attack_input="image", shard_size=5, **settings
    )
    assert_same_but_for_rounding(few.distances, one.distances)
    order = RANDOM.permutation(N)
    turned = {name: array[order] for name, array in ARRAYS.items()}
    back = RobustnessIndex.compute(model, turned, attack_input="image", **settings)
    assert_same_but_for_rounding(back.distances, one.distances[order])


def test_lists_and_subclassed_models_work_as_dictionaries_do():
    model = of_two_inputs()
    listed = keras.Model([model.input["image"], model.input["place"]], model.outputs[0])

    class Wrapped(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = model

        def call(self, inputs):
            return self.inner(inputs)

    wrapped = Wrapped()
    wrapped(ARRAYS)
    settings = {"attack": "margin", "attack_input": "image", "verbose": False}
    expected = RobustnessIndex.compute(model, ARRAYS, **settings).distances
    for own, inputs in [
        (listed, [IMAGES, PLACES]),
        (listed, (IMAGES, PLACES)),
        (listed, ARRAYS),
        (wrapped, ARRAYS),
    ]:
        got = RobustnessIndex.compute(own, inputs, **settings)
        np.testing.assert_allclose(got.distances, expected, rtol=1e-6)
    assert got.metadata["settings"]["attack_input"] == "image"
    assert got.metadata["unit"] == "input 'image' in [0, 1]"


class Subclassed(keras.Model):
    def __init__(self, head=None):
        super().__init__()
        self.flat = keras.layers.Flatten()
        self.hidden = keras.layers.Dense(5, activation="relu", name="hidden")
        self.classes = keras.layers.Dense(Z, activation=head)

    def call(self, inputs):
        return self.classes(self.hidden(self.flat(inputs)))


@pytest.mark.parametrize("name", some_quick(["margin", "ddn"], "margin"))
def test_a_subclassed_model_that_was_called_takes_its_images_shape(name):
    model = Subclassed()
    model(IMAGES[:1])
    spread(model)
    inputs = keras.Input((4, 4, 1))
    graph = keras.Model(inputs, model(inputs))
    index = RobustnessIndex.compute(model, IMAGES, attack=name, **QUIET)
    same = RobustnessIndex.compute(graph, IMAGES, attack=name, **QUIET)
    np.testing.assert_array_equal(index.distances, same.distances)
    layer = RobustnessIndex.compute(model, IMAGES, attack=name, at="hidden", **QUIET)
    kernel, bias = model.classes.get_weights()
    hidden = np.asarray(model.hidden(model.flat(IMAGES)))
    exact = plain_distances(kernel, bias, hidden)
    assert_near(layer.distances, exact, name)


def test_a_subclassed_model_that_was_never_called_is_refused():
    with pytest.raises(InputError, match="is not built.*call it on one batch"):
        RobustnessIndex.compute(Subclassed(), IMAGES, attack="margin", verbose=False)


def graph(make):
    inputs = keras.Input((6,), name="x")
    return keras.Model(inputs, keras.layers.Dense(Z, name="out")(make(inputs)))


DENSE = {name: keras.layers.Dense(6, name=name) for name in ("a", "b", "twice")}


@pytest.mark.parametrize(
    ("make", "at", "message"),
    [
        (lambda x: DENSE["a"](x), "c", "no layer 'c'; layers to choose from: a, out"),
        (lambda x: x + DENSE["a"](x), "a", "also reads the input another way"),
        (lambda x: DENSE["a"](x) + DENSE["b"](x), "a", "reads the input another way"),
        (lambda x: DENSE["twice"](DENSE["twice"](x)), "twice", "is called 2 times"),
        (lambda x: keras.ops.round(DENSE["a"](x)), "a", None),
    ],
)
def test_layers_that_cannot_move_alone_are_refused(make, at, message):
    model = graph(make)
    if message is None:
        assert attacks.prepare("margin", model, at=at)
        return
    with pytest.raises(InputError, match=message) as error:
        attacks.prepare("margin", model, at=at)
    assert "layers to choose from" in str(error.value)


def test_an_output_that_is_used_twice_moves_once():
    model = spread(graph(lambda x: (h := DENSE["a"](x)) + keras.ops.tanh(h)))
    inputs = RANDOM.normal(size=(N, 6)).astype(np.float32)
    rest = keras.Input((6,))
    hand = keras.Model(rest, model.get_layer("out")(rest + keras.ops.tanh(rest)))
    index = RobustnessIndex.compute(model, inputs, attack="ddn", at="a", **QUIET)
    vectors = np.asarray(DENSE["a"](inputs))
    same = RobustnessIndex.compute(hand, vectors, attack="ddn", bounds=None, **QUIET)
    np.testing.assert_allclose(index.distances, same.distances, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "inputs", "message"),
    [
        ({}, None, "has the inputs 'image', 'place'; .*attack_input=.*at="),
        ({"attack_input": "photo"}, None, "no input 'photo'; its inputs are 'image'"),
        ({"attack_input": "place"}, None, "'place' takes int32; .*give at="),
        ({"attack_input": "image", "at": "emb"}, None, "exclude each other"),
        ({"attack_input": 3}, None, "attack_input must be a name; received 3"),
        ({"attack_input": "image"}, {"image": IMAGES}, "add 'place'"),
        ({"attack_input": "image"}, IMAGES, "received ndarray; give a dictionary"),
        (
            {"attack_input": "image"},
            {"image": IMAGES, "place": PLACES[:3]},
            "same number of examples; received 24 of 'image', 3 of 'place'",
        ),
        (
            {"attack_input": "image"},
            {"image": IMAGES, "place": PLACES + 0.5},
            "'place' takes int32; received float64 with values that it does not hold",
        ),
        (
            {"attack_input": "image"},
            {"image": IMAGES, "place": PLACES[:, :1]},
            r"'place' takes shape \('N', 2\); received an array of shape \(24, 1\)",
        ),
        ({"attack_input": "image", "compute_dtype": "bfloat16"}, None, "bfloat16"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(settings, inputs, message):
    arrays = ARRAYS if inputs is None else inputs
    with pytest.raises(InputError, match=message):
        RobustnessIndex.compute(
            of_two_inputs(), arrays, attack="margin", verbose=False, **settings
        )


def test_tokens_without_at_are_told_what_to_do():
    with pytest.raises(InputError, match="an Embedding"):
        RobustnessIndex.compute(of_tokens(), TOKENS, attack="margin", verbose=False)
    with pytest.raises(InputError, match="type int64; .*at=; layers to .*: emb, lstm"):
        attacks.prepare("margin", of_tokens())
    with pytest.raises(InputError, match="tanh space and needs bounds"):
        RobustnessIndex.compute(of_tokens(), TOKENS, at="emb", verbose=False)
    rounded = keras.Sequential(
        [
            keras.Input((LENGTH,)),
            keras.layers.Lambda(lambda x: keras.ops.cast(x * 20, "int32")),
            keras.layers.Embedding(WORDS, SIZE, name="emb"),
            keras.layers.Flatten(),
            keras.layers.Dense(Z),
        ]
    )
    scaled = np.float32(TOKENS / WORDS)
    for name in ("margin", "ddn", "cw"):
        with pytest.raises(InputError, match="no gradient reaches.*with at="):
            attacks.prepare(name, rounded)(scaled)
    assert attacks.prepare("margin", rounded, at="emb")(scaled).found.all()


def test_what_moved_is_kept_with_the_index(tmp_path):
    model = of_tokens()
    index = RobustnessIndex.compute(model, TOKENS, attack="margin", at="emb", **QUIET)
    index.save(tmp_path / "index.npz")
    loaded = RobustnessIndex.load(tmp_path / "index.npz")
    assert loaded.metadata == index.metadata
    assert "the output of layer 'emb'" in str(loaded)
    settings = loaded.metadata["settings"]
    assert (settings["at"], settings["bounds"]) == ("emb", None)
    loaded.verify(model, settings=settings)
    with pytest.raises(InputError, match="another attack setting"):
        loaded.verify(settings={**settings, "at": "lstm"})
    with pytest.raises(InputError, match="shards of another computation"):
        for at in ("emb", "dense"):
            at = at if at == "emb" else model.layers[-2].name
            RobustnessIndex.compute(
                model, TOKENS, attack="margin", at=at, shards_dir=tmp_path, **QUIET
            )
    assert model.get_layer("emb").call.__name__ == "call"  # and no longer ours
    assert "call" not in vars(model.get_layer("emb"))


class OfOnesOwn(keras.Model):
    """A subclassed model: a function of its inputs, and classes."""

    def __init__(self, before):
        super().__init__()
        self.before, self.dense = before, layers.Dense(Z)

    def call(self, x):
        return self.dense(layers.Flatten()(self.before(x)))


def called(model, x):
    model(x)
    return model


def sequential(*before):
    return keras.Sequential([*before, layers.Flatten(), layers.Dense(Z)])


PIXELS = np.uint8(IMAGES * 255)
WORDS_GIVEN = np.array(["good fine", "bad"])
SPARSE = tf.sparse.from_dense(np.eye(4, dtype=np.float32))
MOVED = {
    "floats": (lambda: OfOnesOwn(lambda x: x), IMAGES, True),
    "8 bits": (lambda: OfOnesOwn(layers.Rescaling(1 / 255)), PIXELS, True),
    "8 bits, Input": (
        lambda: sequential(keras.Input((4, 4, 1)), layers.Rescaling(1 / 255)),
        PIXELS,
        True,
    ),
    "truth values": (lambda: sequential(keras.Input((4, 4, 1))), IMAGES > 0.5, True),
    "a dictionary": (
        lambda: OfOnesOwn(lambda x: x["image"]),
        {"image": IMAGES},
        True,
    ),
    "a list": (lambda: OfOnesOwn(lambda x: x[0]), (IMAGES,), True),
    "tokens": (lambda: sequential(layers.Embedding(WORDS, 2)), TOKENS, False),
    "tokens, Input": (
        lambda: sequential(keras.Input((LENGTH,)), layers.Embedding(WORDS, 2)),
        TOKENS,
        False,
    ),
    "tokens as floats": (
        lambda: sequential(keras.Input((LENGTH,)), layers.Embedding(WORDS, 2)),
        np.float32(TOKENS),
        False,
    ),
    "tokens, subclass": (
        lambda: OfOnesOwn(layers.Embedding(WORDS, 2)),
        TOKENS,
        False,
    ),
    "no floats taken": (
        lambda: OfOnesOwn(lambda x: tf.one_hot(x, WORDS)),
        TOKENS,
        False,
    ),
    "whole numbers declared": (of_tokens, TOKENS, False),
    "text": (
        lambda: OfOnesOwn(lambda x: tf.strings.length(x)[:, None]),
        WORDS_GIVEN,
        0,
    ),
    "two inputs": (lambda: OfOnesOwn(lambda x: x["a"]), {"a": IMAGES, "b": IMAGES}, 0),
    "sparse": (lambda: OfOnesOwn(tf.sparse.to_dense), SPARSE, False),
}


@pytest.mark.parametrize("name", MOVED)
def test_a_gradient_tells_what_moves(name):
    make, x, expected = MOVED[name]
    x = keras.tree.map_structure(tf.convert_to_tensor, x) if name != "sparse" else x
    assert moves(called(make(), x), x) == bool(expected)


def test_whole_numbers_of_a_subclassed_model_move_as_those_of_another():
    own, other = (
        spread(called(model, PIXELS))
        for model in (
            OfOnesOwn(layers.Rescaling(1 / 255)),
            sequential(keras.Input((4, 4, 1)), layers.Rescaling(1 / 255)),
        )
    )
    found = [
        RobustnessIndex.compute(
            model, PIXELS, attack="ddn", bounds=(0, 255), from_logits=True, **QUIET
        ).distances
        for model in (own, other)
    ]
    np.testing.assert_allclose(*found, rtol=1e-5)
    tokens = called(OfOnesOwn(layers.Embedding(WORDS, 2)), TOKENS)
    with pytest.raises(InputError, match="an attack moves floats: name the layer"):
        attacks.margin(tokens, TOKENS, bounds=None, from_logits=True)


def test_a_model_gets_its_one_input_in_the_structure_that_it_takes():
    """A model of a dictionary finds the distances of its twin, whatever else is in."""
    twin = spread(sequential(keras.Input((4, 4, 1))))
    own = called(OfOnesOwn(lambda x: x["image"]), {"image": IMAGES})
    own.set_weights(twin.get_weights())
    image = keras.Input((4, 4, 1), name="image")
    named = keras.Model({"image": image}, twin(image))
    settings = {"attack": "margin", "from_logits": True, **QUIET}
    expected = RobustnessIndex.compute(twin, IMAGES, **settings).distances
    for model in (own, named):
        for given in ({"image": IMAGES}, {"image": IMAGES, "extra": PLACES}, IMAGES):
            found = RobustnessIndex.compute(model, given, **settings).distances
            np.testing.assert_allclose(found, expected, rtol=1e-5)
