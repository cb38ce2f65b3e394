"""Studies: the files that come with the package, and what is refused in a file."""

import configparser
from pathlib import Path

import pytest

import ar_adals_tf
from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.flagfiles import flags_folder, read_flagfile
from ar_adals_tf.experiment.flags import config_of_texts
from ar_adals_tf.studies.cells import cells_of
from ar_adals_tf.studies.study import load_study, study_names

PACKAGE = Path(ar_adals_tf.__file__).parent

SMALLEST = """
title = "A study"
dataset = "fashion_mnist_small"
seeds = [0, 1]
images = { train = 9, validation = 9, test = 9 }

[methods.vanilla]
flagfile = "fashion_mnist_small/vanilla.cfg"
"""


def own(folder, more="", text=SMALLEST):
    """Load a study of one's own."""
    path = folder / "mine.toml"
    path.write_text(text + more)
    return load_study(str(path))


@pytest.mark.parametrize("name", study_names())
def test_a_study_that_comes_with_the_package_is_whole(name):
    study = load_study(name)
    assert study.methods
    for method in study.methods.values():
        assert method.config().dataset == study.dataset in DATASETS


def test_there_is_a_study_for_each_dataset_the_companion_and_a_quick_one():
    assert {*DATASETS, "adversarial_training", "smoke"} <= set(study_names())


def test_settings_come_from_the_flagfiles():
    study = load_study("cifar10")
    assert study.methods["adals"].config().alpha == "0.05"
    assert study.methods["ar_adals"].config().attack == "cw"
    assert study.methods["ls"].config().label_smoothing == 0.02
    assert study.methods["ar_adals_equal_alpha"].config().alpha == "0.05"
    on_the_fly = study.methods["ar_adals_on_the_fly"].config()
    assert (on_the_fly.refresh_epochs, on_the_fly.attack) == ([65, 130], "margin")


def test_every_flagfile_can_be_read_without_a_command_line():
    paths = sorted(flags_folder().glob("*/*.cfg"))
    assert len(paths) > 40
    for path in paths:
        config = config_of_texts(read_flagfile(path))
        assert config.dataset in DATASETS


def test_the_study_of_fashion_mnist_is_the_one_for_the_record():
    study = load_study("fashion_mnist")
    assert study.seeds == (0, 1, 2, 3, 4)
    assert study.own_vanilla
    methods = study.methods
    assert methods["ar_adals"].config().attack == "margin"
    assert methods["ar_adals"].choose.param == "alpha"
    assert methods["ls"].choose.param == "label_smoothing"
    assert methods["ar_adals_levels"].each.values == ("1", "2", "4", "8", "10", "16")
    controls = {m.config().levels_from for m in methods.values()}
    assert controls >= {"random", "confidence", "loss", "robustness"}
    # With one training it is what `ar_adals_tf.fit` does, its alpha too.
    assert methods["ar_adals_own_levels"].config().own_levels
    for name in set(methods) - {"ar_adals_own_levels"}:
        if "ar_adals" in name:  # one choice serves all that differ in their levels
            assert methods[name].choice_of == "ar_adals"
    assert study.evaluate == {"shift": "true", "ood": "cifar10"}


def test_one_like_another_has_its_settings_but_for_its_own(tmp_path):
    study = own(
        tmp_path,
        '[methods.ar_adals]\nmethod = "ar_adals"\nattack = "margin"\nepochs = 3\n'
        '[methods.random]\nlike = "ar_adals"\nlevels_from = "random"\nseeds = [1]\n',
    )
    assert study.methods["random"].config().epochs == 3
    assert study.methods["random"].config().levels_from == "random"
    assert study.methods["random"].own == {"levels_from": "random"}
    assert study.methods["random"].seeds == (1,)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("x = 1\n", "methods.vanilla: x is no setting"),
        ("epochs = 0\n", "methods.vanilla: --epochs must be"),
        ('epochs = "many"\n', "--epochs must be of the type int; received 'many'"),
        ("seed = 1\n", "methods.vanilla.seed is the study's own"),
        ("seeds = [2]\n", "methods.vanilla.seeds has 2, which seeds has not"),
        ("seeds = []\n", r"seeds must have 1 or more items"),
        ("choose = 3\n", "choose must be one setting with two or more values"),
        ("choose = { epochs = [1, 2] }\n", "choose takes one of alpha, label_smooth"),
        ("each = { epochs = [1, 1] }\n", "epochs has a value twice"),
        ('dataset = "cifar10"\n', "is of cifar10, the study of fashion_mnist_small"),
        ('[methods.b]\nlike = "c"\n', "methods.b.like must be a method before it"),
        ('[methods.b]\nmembers = "b"\n', "methods.b.members must be a method before"),
        ('[methods.b]\nmembers = "vanilla"\neach = { epochs = [1, 2] }\n', "and each"),
        ('[methods.b]\nmembers = "vanilla"\nseeds = [1]\n', "b has both members and"),
        ('[methods.b]\nmembers = "vanilla"\nlike = "vanilla"\n', "members and like"),
        ('[methods.b]\nlike = "vanilla"\nflagfile = "x.cfg"\n', "like and flagfile"),
        (
            '[methods.b]\nmembers = "vanilla"\nchoose = { alpha = [1, 2] }\n',
            "methods.b has both members and choose; leave one of them out",
        ),
        (
            "epochs = 3\neach = { epochs = [1, 2] }\n",
            "methods.vanilla has epochs and varies it by each; leave one of them out",
        ),
        (
            "choose = { alpha = [1, 2] }\neach = { alpha = [1, 2] }\n",
            "methods.vanilla has alpha both in choose and in each",
        ),
        ("each = { seed = [0, 1] }\n", "vanilla.each.seed is the study's own; leave"),
        ("[settings]\nseed = 3\n", "settings.seed is the study's own; leave it out"),
        (
            '[methods.b]\nlike = "vanilla"\n',
            "methods.b has no run that methods.vanilla has not; give it a setting or a",
        ),
        (
            '[methods.b]\nlike = "vanilla"\nseeds = [1]\n',
            "methods.b has no run that methods.vanilla has not",
        ),
        (
            '[methods.b]\nmembers = "vanilla"\n[methods.c]\nmembers = "vanilla"\n',
            "methods.c has no run that methods.b has not",
        ),
        (
            '[methods.b]\nflagfile = "no.cfg"\n',
            "no flagfile 'flags/no.cfg': /.* is no file",
        ),
        ("[evaluate]\nshifts = true\n", "evaluate has 'shifts'; it may have shift"),
        ('[evaluate]\nood = ["mars"]\n', r"evaluate.ood\[0\] must be one of"),
        ("[evaluate]\nseverities = [9]\n", r"evaluate.severities\[0\] must be"),
        ("[evaluate]\nsigma = [0.5]\n", "--sigma is for --certify"),
        ("[evaluate]\nepsilons = [8]\n", "--epsilons is for --attacks; give both"),
        ("[evaluate]\ncertify = true\nsigma = [0]\n", "--sigma takes .*received 0"),
        ('[evaluate]\ncertify = "yes"\n', "evaluate.certify must be true or false"),
        ("[evaluate]\ncertify = true\nsigma = 0.5\n", "evaluate.sigma must be"),
        (
            "[evaluate]\ncertify = true\ncertify_samples = 9\n",
            "--certify_samples must be at least --certify_selection_samples, 100",
        ),
        (
            "[evaluate]\ncertify = true\ncertify_images = 1.5\n",
            "evaluate.certify_images must be a whole number",
        ),
        *(
            (f"[evaluate]\n{name} = []\n", f"evaluate.{name} must have 1 or more items")
            for name in (
                "shift_types",
                "severities",
                "ood",
                "attacks",
                "epsilons",
                "sigma",
            )
        ),
        ('[settings]\ndata_dir = ""\n', "--data_dir must not be empty; leave it out"),
        (
            '[methods.a]\nmethod = "ls"\nweights_file = ""\n',
            "methods.a: --weights_file must not be empty",
        ),
        ('[methods.a]\nflagfile = ""\n', "there is no flagfile"),
        ("[else]\n", "its content has 'else'; it may have title"),
        ("title = ", "cannot be read"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_in_one_sentence(more, says, tmp_path):
    with pytest.raises(InputError, match=says) as caught:
        own(tmp_path, more)
    assert "mine.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_study_needs_test_images_but_no_validation_images(tmp_path):
    text = SMALLEST.replace("validation = 9", "validation = 0")
    assert own(tmp_path, text=text).images["validation"] == 0
    with pytest.raises(InputError, match="images.test must be a whole number"):
        own(tmp_path, text=SMALLEST.replace("test = 9", "test = 0"))


@pytest.mark.parametrize("name", ["title", "dataset", "seeds", "images"])
def test_what_is_missing_in_a_file_is_named(name, tmp_path):
    lines = [line for line in SMALLEST.splitlines() if not line.startswith(name)]
    says = (
        f"mine.toml cannot be: {name} is missing; compare it with those of .*studies$"
    )
    with pytest.raises(InputError, match=says):
        own(tmp_path, text="\n".join(lines))


def test_levels_of_a_vanilla_model_need_one(tmp_path):
    text = SMALLEST.replace("[methods.vanilla]", "[methods.plain]")
    more = '[methods.ar_adals]\nmethod = "ar_adals"\n'
    with pytest.raises(InputError, match="so methods.vanilla must be there"):
        own(tmp_path, more, text)
    more += 'levels_from = "random"\n'
    assert own(tmp_path, more, text).methods["ar_adals"]


def test_a_study_can_ask_for_certificates(tmp_path):
    study = own(
        tmp_path, "[evaluate]\ncertify = true\nsigma = [0.25, 0.5]\ncertify_images = 9"
    )
    assert study.evaluate == {
        "certify": "true",
        "sigma": "0.25,0.5",
        "certify_images": "9",
    }


def test_the_variants_of_resnet18_are_each_trained_in_both_ways():
    methods = load_study("adversarial_training_resnet18_variants").methods
    found = {}
    for method in methods.values():
        each = method.each.values if method.each else [None]
        for value in each:
            config = method.config(**({"norm": value} if value else {}))
            own = found.setdefault(config.method, [])
            own.append((config.norm, config.attention))
            assert config.model == "resnet18_cifar"
    variants = [
        *(("batch", "none"), ("group", "none"), ("layer", "none")),
        *(("batch", "se"), ("group", "se")),
    ]
    assert found == {"vanilla": variants, "fgsm_at": variants}


def test_an_unknown_study_is_refused_with_the_names_of_all(tmp_path):
    with pytest.raises(InputError, match="no study 'mars'; choose from .*cifar10, ci"):
        load_study("mars")
    with pytest.raises(InputError, match="there is no file .*absent.toml"):
        load_study(str(tmp_path / "absent.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="binary.toml cannot be read"):
        load_study(str(tmp_path / "binary.toml"))


@pytest.mark.parametrize(
    ("text", "says"),
    [("epochs=3", "a line must be a flag"), ("--epochs=x", "of the type int")],
)
def test_a_broken_flagfile_is_refused(text, says, tmp_path):
    path = tmp_path / "own.cfg"
    path.write_text(f"# a comment\n--dataset=cifar10\n--method=ls\n{text}\n")
    with pytest.raises(InputError, match=says):
        config_of_texts(read_flagfile(path))


def test_the_study_in_the_document_can_be_read(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "studies.md").read_text()
    lines = text.partition("## A study of your own")[2].splitlines()
    code = "\n".join(line[4:] for line in lines if line.startswith("    "))
    study = own(tmp_path, text=code)
    assert list(study.methods) == [
        "vanilla",
        "ar_adals",
        "random",
        "levels",
        "ensemble",
    ]
    assert study.methods["levels"].choice_of == "ar_adals"


def test_a_wheel_has_every_file_of_flags():
    settings = configparser.ConfigParser()
    settings.read(Path(__file__).parents[2] / "setup.cfg")
    patterns = settings["options.package_data"]["ar_adals_tf"].split()
    packed = {path for one in patterns for path in PACKAGE.glob(one)}
    files = {path for path in (PACKAGE / "flags").glob("*/*") if path.is_file()}
    assert len(files) > 50
    assert files <= packed


def test_flags_are_found_in_a_checkout_without_links(monkeypatch):
    beside = Path(__file__).parents[2] / "flags"
    assert flags_folder().resolve() == beside.resolve()
    monkeypatch.setattr(Path, "is_dir", lambda self: False)
    assert flags_folder() == beside


@pytest.mark.parametrize("name", ['"a/b"', '".."', '"a b"'])
def test_a_method_names_folders(name, tmp_path):
    with pytest.raises(InputError, match="name must be letters, digits and any of"):
        own(tmp_path, f"[methods.{name}]\nmethod = 'vanilla'\n")


def test_a_method_may_share_some_runs_with_another(tmp_path):
    """The value that the other one has is made once."""
    more = '[methods.b]\nlike = "vanilla"\neach = { epochs = [30, 2] }\n'
    vanilla = own(tmp_path).methods["vanilla"].config()
    study = own(tmp_path, more.replace("30", str(vanilla.epochs)))
    made = [c.name for c in cells_of(study, "s") if c.module == "train"]
    assert made == ["train vanilla-0", "train b-2-0", "train vanilla-1", "train b-2-1"]
