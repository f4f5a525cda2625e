"""Every kind of wiring mistake: an error at the right line and columns that says what is wrong and what to do."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainer.errors import RecipeError
from trainer.recipe.document import Document
from trainer.recipe.load import recipe_of

INPUTS = {
    "one": "{image: {preprocess: [{Reshape: {target_shape: [64]}}]}}",
    "two": "{left: {field: image, preprocess: [{Reshape: {target_shape: [64]}}]}, "
    "right: {field: image, preprocess: [{Reshape: {target_shape: [64]}}]}}",
    "steps": "{image: {}}",
}
TARGETS = {
    "one": "{label: {}}",
    "kind": "{kind: {field: label}}",
    "two": "{kind: {field: label}, size: {field: label}}",
}
CASES: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "wiring.yaml").read_text(encoding="utf-8"))


def text_of(case: dict[str, Any]) -> str:
    """The recipe of a case."""
    head = f"dataset:\n  source: digits\n  inputs: {INPUTS[case.get('inputs', 'one')]}\n"
    head += f"  targets: {TARGETS[case.get('targets', 'one')]}\nmodel:\n"
    rest = case.get("rest", "compile: {loss: sparse_categorical_crossentropy}\n")
    return head + textwrap.indent(case["model"], "  ") + rest


def found(text: str) -> list[dict[str, str]]:
    """The errors of a recipe, as the file writes them."""
    with pytest.raises(RecipeError) as caught:
        recipe_of(Document.parse(text, "recipe.yaml"), "recipe", Path())
    errors = []
    for problem in caught.value.problems:
        place = problem.place
        assert place is not None
        path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in problem.path)[1:]
        at = f"{place.line}:{place.column}-{place.column + place.width - 1} {path}"
        errors.append({"at": at, "says": problem.message, **({"try": problem.hint} if problem.hint else {})})
    return errors


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_shown_at_its_place_with_what_to_do(name: str) -> None:
    assert found(text_of(CASES[name])) == CASES[name]["errors"]


def test_there_are_all_kinds_and_nearly_all_say_what_to_try() -> None:
    errors = [error for case in CASES.values() for error in case["errors"]]
    silent = {error["says"] for error in errors if "try" not in error}
    assert len(CASES) >= 70
    # These say in themselves what would be right.
    assert all("expected" in says or "; did you mean" in says for says in silent), silent


def test_a_layer_may_have_the_name_of_an_input_that_nothing_reads_by_it() -> None:
    text = text_of({"model": "layers:\n  - Dense: {name: image, units: 10, activation: softmax}\n"})
    assert list(recipe_of(Document.parse(text), "recipe", Path()).outline.wiring.layers) == ["image"]


def test_arguments_by_name_reach_the_layer_in_its_order() -> None:
    text = text_of(CASES["an argument that is missing before another"])
    text = text.replace("{query: words, key: words}", "{value: image, query: words}")
    graph = recipe_of(Document.parse(text), "recipe", Path()).outline.graph
    assert graph is not None
    assert [graph.called(n) for n in graph.calls[1].inputs] == ["words", "image"]


def again(first: str) -> str:
    return text_of(CASES["a later call on another shape"]).replace("- Dense: {name: eye, units: 32}", first)


def test_a_layer_without_weights_may_be_called_again_on_another_shape() -> None:
    text = again("- Flatten: {name: eye}\n    - Dense: {units: 3}")
    assert recipe_of(Document.parse(text), "recipe", Path()).outline.graph is not None


def test_a_shared_model_is_refused_on_another_shape() -> None:
    (error,) = found(again("- Sequential: {name: eye, layers: [{Dense: {units: 8}}]}"))
    says = "eye: its weights are those of another shape, so that it can't be called again on (None, 8)"
    assert error["says"] == says
