"""Names and the order of arguments are Keras's: every spelling that it takes, options as its signatures list them."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from typing import Any

import pytest

from tests.contract import coverage
from trainer.declare import Declared
from trainer.errors import RecipeError
from trainer.losses.base import Loss
from trainer.metrics.resolve import BY_SHAPE
from trainer.optimizers.base import Optimizer
from trainer.recipe.explanation import explain
from trainer.recipe.json_schema import KINDS

KIND = {kind.kind: kind for kind in KINDS}
BY_NAME = ["losses", "metrics", "optimizers", "initializers", "regularizers", "constraints", "activations"]
"""Sections whose `get` in Keras turns a word into an object."""
BASES = {"Loss", "LossFunctionWrapper", "Metric", "Mean", "Sum", "MeanMetricWrapper", "Optimizer", "OptimizerMap"}
BASES |= {"Initializer", "Regularizer", "Constraint", "threshold"}
"""What Keras finds by a word and no recipe can use."""


def words(section: str) -> dict[str, Any]:
    """Keras's table for `get`: word to class or function."""
    return importlib.import_module(f"keras.src.{section}").ALL_OBJECTS_DICT


@pytest.mark.parametrize("section", BY_NAME)
def test_words_that_keras_gets_mean_the_same(section: str) -> None:
    kind = KIND[coverage.SECTIONS[section]]
    held = 0
    for word, meant in words(section).items():
        if meant.__name__ in BASES:
            continue
        final = kind.find(word)
        assert meant.__name__ in (final.__name__, final.recipe_name()) or final is kind.find(meant.__name__), word
        assert not inspect.isclass(meant) or final.__name__ == meant.__name__, word
        held += 1
    assert held >= {"losses": 50, "metrics": 80, "activations": 30, "initializers": 35, "optimizers": 14}.get(
        section, 8
    )


@pytest.mark.parametrize("section", [s for s in coverage.SECTIONS if s not in ("datasets", "utils")])
def test_exported_names_mean_the_same(section: str) -> None:
    """Such as MaxPool2D, Convolution2D and GlobalAvgPool1D: aliases of one class in Keras are of one class here."""
    module = coverage.keras_module(section)
    for entry in coverage.entries(section):
        theirs = getattr(module, entry.names[0])
        for name in entry.names[1:]:
            found = getattr(module, name, theirs)
            assert found is theirs or not (inspect.isclass(found) and inspect.isclass(theirs)), name


def test_optimizers_are_found_in_any_case() -> None:
    """As in Keras, whose `get` makes the name small first."""
    names = [n for n in words("optimizers") if words("optimizers")[n].__name__ not in BASES]
    for name in names:
        assert Optimizer.find(name.upper()) is Optimizer.find(name)
    assert Optimizer.find("RMSProp").__name__ == "RMSprop"
    with pytest.raises(RecipeError, match="no optimizer"):
        Optimizer.find("ADAMANT")


def test_words_that_go_by_the_shape_are_those_of_compile() -> None:
    """Each is explained as such, beside a class of that name if there is one."""
    assert set(BY_SHAPE) == {"accuracy", "acc", "Accuracy", "ACC", "crossentropy", "ce"}
    for word in BY_SHAPE:
        assert explain(word)[0].what == "a metric that the shapes choose"


def test_names_that_keras_refuses_are_refused() -> None:
    for name in ("cosine", "log_loss", "Mse"):
        with pytest.raises(RecipeError, match="no loss called"):
            Loss.find(name)


ENTRIES = [pytest.param(e, id=f"{s}-{e.names[0]}") for s in coverage.SECTIONS for e in coverage.entries(s)]


def test_entries_are_whole() -> None:
    assert len(ENTRIES) >= 280


@pytest.mark.parametrize("entry", ENTRIES)
def test_options_stand_in_the_order_of_keras(entry: coverage.Entry) -> None:
    options = entry.final.options()
    assert len(options) == len(set(options)) == len(entry.final.model_fields), "an option is missing or there twice"
    ours = [o for o in options if o in entry.own]
    assert ours == [a for a in entry.own if a in options]


def test_configs_follow_that_order() -> None:
    config = Optimizer.parse("Muon").keras_config()
    names: list[str] = list(config)
    assert names.index("adam_beta_1") < names.index("weight_decay") < names.index("name") < names.index("muon_a")


def test_options_of_extended_classes_keep_their_place() -> None:
    """By hand, so that the sweep above can't pass on wrong signatures."""
    expected = {
        "VarianceScaling": ["scale", "mode", "distribution", "seed", "input_axes", "output_axes"],
        "PrecisionAtRecall": ["recall", "num_thresholds", "class_id", "name"],
        "FBetaScore": ["average", "beta", "threshold", "name"],
        "BinaryIoU": ["target_class_ids", "threshold", "name", "dtype"],
        "Tversky": ["alpha", "beta", "reduction", "name", "axis"],
    }
    found: dict[str, type[Declared]] = {n: c for kind in KINDS for n, c in kind.spellings().items() if n in expected}
    assert {name: final.options() for name, final in found.items()} == expected


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.kind)
def test_a_class_found_by_itself_is_the_one_of_the_catalogue(kind: type[Declared]) -> None:
    """The files of a package are read for names, so that one class is imported without the others: all of them."""
    # Another test's plugin may have added some that stand in no file of the package.
    ours = {name: found for name, found in kind.spellings().items() if found.__module__.startswith("trainer.")}
    assert len(ours) > 3
    assert {name: kind.known(name) for name in ours} == ours
    assert kind.known("Nothing") is None
    assert kind.known("Declared") is None


def test_a_name_costs_its_own_module() -> None:
    code = (
        "import sys; from trainer.layers.base import Layer; from trainer.optimizers.base import Optimizer;"
        "assert Layer.find('Dense').__name__ == 'Dense'; assert Optimizer.find('ADAM').__name__ == 'Adam';"
        "from trainer.errors import RecipeError\n"
        "for word, meant in (('Densse', 'Dense'), ('MaxPool2d', 'MaxPool2D')):\n"
        "    try: Layer.find(word)\n"
        "    except RecipeError as error: assert f'did you mean {meant}?' in str(error), error\n"
        "print(len([m for m in sys.modules if m.startswith(('trainer.layers.', 'trainer.optimizers.'))]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 15
