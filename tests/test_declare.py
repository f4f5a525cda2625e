"""The declaration core: options, kinds, names, errors, and what follows from one declaration."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from pydantic import ValidationError

from trainer.block import describe, problems_of
from trainer.declare import Declared, explained
from trainer.errors import Problem, RecipeError, nearest, path_text
from trainer.initializers.base import Initializer
from trainer.layers.base import Layer
from trainer.naming import snake_case
from trainer.options import Int, number
from trainer.schedules.base import Schedule


def problems(kind: type[Declared], value: Any) -> list[Problem]:
    with pytest.raises(ValidationError) as caught:
        kind.parse(value)
    return problems_of(caught.value)


def test_every_problem_is_found_at_its_own_path() -> None:
    bad = {"units": -4, "unit": 3, "activation": "rleu", "kernel_initializer": {"GlorotUniform": {"sed": 1}}}
    found = {path_text(p.path): p for p in problems(Layer, {"Dense": bad})}
    assert found["Dense.units"].message == "expected an integer above 0, found -4"
    assert found["Dense.unit"].message == 'Dense has no option "unit"'
    assert found["Dense.unit"].hint == "did you mean units?"
    assert found["Dense.unit"].on_key
    assert found["Dense.activation"].hint == "did you mean relu?"
    assert found["Dense.kernel_initializer.GlorotUniform.sed"].hint == "did you mean seed?"
    assert len(found) == 4


def test_a_missing_option_is_explained() -> None:
    (problem,) = problems(Layer, "Dense")
    assert problem.message == "Dense needs units, which is missing"
    assert problem.hint == "units: Size of the last axis of the output."


@pytest.mark.parametrize("value", [3, None, [], {"Dense": {"units": 1}, "Flatten": {}}, {3: {}}])
def test_what_is_no_name_is_refused(value: Any) -> None:
    (problem,) = problems(Layer, value)
    assert problem.message.startswith("expected a layer, found")


@pytest.mark.parametrize("value", [True, 2.0, "2", None])
def test_integers_are_strict(value: Any) -> None:
    (problem,) = problems(Layer, {"Dense": {"units": value}})
    assert problem.message.startswith("expected an integer above 0, found")


def test_fractions_are_numbers() -> None:
    assert number("1/255") == 1 / 255
    for bad in ("a", "1/0", "1/2/3", "nan/1", True, float("inf")):
        with pytest.raises((ValueError, TypeError, ZeroDivisionError)):
            number(bad)


def test_a_bare_number_is_a_constant_rate() -> None:
    assert Schedule.parse(0.1).rate(5) == 0.1
    assert Schedule.parse("1/4").rate(0) == 0.25
    assert Schedule.parse(0.1).spec() == 0.1


def test_short_names_are_those_of_keras() -> None:
    assert Initializer.parse("glorot_uniform") == Initializer.parse("GlorotUniform")
    assert [snake_case(n) for n in ("Conv2D", "MaxPooling2D", "LSTM", "ReLU")] == [
        "conv2d",
        "max_pooling2d",
        "lstm",
        "re_lu",
    ]
    with pytest.raises(RecipeError):
        Layer.find("dense")


def test_a_declared_object_is_frozen_and_travels() -> None:
    layer = Layer.parse({"Dense": {"units": 3, "activation": "relu"}})
    with pytest.raises(ValidationError):
        layer.units = 4  # pyright: ignore[reportAttributeAccessIssue]
    assert pickle.loads(pickle.dumps(layer)) == copy.deepcopy(layer) == layer
    assert hash(layer) == hash(copy.deepcopy(layer))


def test_final_classes_are_not_extended_and_names_are_unique() -> None:
    dense = Layer.find("Dense")
    with pytest.raises(TypeError, match="abstract or final"):
        type("Denser", (dense,), {"__module__": __name__})
    with pytest.raises(TypeError, match="two layer classes are called Dense"):
        type("Dense", (Layer,), {"__module__": __name__})


def test_an_abstract_class_is_not_in_the_catalogue() -> None:
    class Half(Layer, abstract=True):
        """Half a layer."""

    assert "Half" not in Layer.catalogue
    assert "Dense" in Layer.spellings()


def test_options_are_described_where_they_are_declared() -> None:
    lines = describe(Layer.find("Dense"))
    assert lines["units"] == "Size of the last axis of the output."
    assert lines["name"].startswith("Name of the layer")
    rows = {name: (words, default) for name, words, default, _ in explained(Layer.find("Dense"))}
    assert rows["kernel_regularizer"] == ("a regularizer or null", None)
    assert next(iter(rows)) == "units"


def test_nearest_ignores_case_and_says_nothing_when_nothing_is_near() -> None:
    assert nearest("dense", ["Dense", "Flatten"]) == "did you mean Dense?"
    assert nearest("xyzzy", ["Dense"]) == ""


def test_a_plugin_class_needs_no_keras() -> None:
    class Twice(Layer, keras=""):
        """x * 2"""

    try:
        assert Twice().to_keras()["registered_name"] == "trainer>Twice"
        assert Twice().to_keras()["module"] is None
        assert Layer.parse("Twice") == Twice()
    finally:
        del Layer.catalogue["Twice"]


def test_keras_order_places_what_it_lists_and_its_dots_the_rest() -> None:
    class Base(Layer, abstract=True):
        seed: Int = 0
        "A seed."
        rate: Int = 0
        "A rate."

    class Listed(Base, keras=""):
        """Listed."""

        keras_order = "size ... seed name"

        size: Int = 0
        "A size."

    class Plain(Base, keras=""):
        """Plain."""

        keras_order = "rate"

    try:
        common = [n for n in Layer.model_fields if n != "name"]
        assert Listed.options() == ["size", "rate", "seed", "name", *common]
        assert Plain.options() == ["rate", "seed", *Layer.model_fields]
        assert list(Listed().spec()["Listed"]) == list(Listed.model_json_schema()["properties"]) == Listed.options()
    finally:
        del Layer.catalogue["Listed"], Layer.catalogue["Plain"]
