"""What parts of a recipe can't both say, found before anything is trained."""

from __future__ import annotations

import pytest

from tests.recipe.test_check import errors
from tests.train.recipes import DIGITS, loaded
from trainer.errors import Problem, RecipeError
from trainer.recipe.load import Loaded


def only_problem(text: str) -> Problem:
    with pytest.raises(RecipeError) as caught:
        loaded(text)
    (problem,) = caught.value.problems
    return problem


def optimizer(text: str) -> str:
    return DIGITS.replace("{adam: {learning_rate: 0.01}}", text)


def several(patterns: str) -> str:
    return optimizer(f"{{MultiOptimizer: {{optimizer_map: {{default_optimizer: adam, optimizer_map: {patterns}}}}}}}")


@pytest.mark.parametrize(
    ("patterns", "hint"),
    [
        ("{dens/.*: sgd}", "did you mean dense/.*?"),
        ("{dense: sgd}", "did you mean dense/.*?"),
        ("{dense_1/kernal: sgd}", "did you mean dense_1/kernel?"),
        ("{kernel: sgd}", "did you mean dense/kernel?"),
        ("{dense/.*: sgd, dropout/.*: sgd}", "there are dense/kernel, dense/bias, dense_1/kernel, dense_1/bias"),
    ],
)
def test_expressions_that_fit_nothing(patterns: str, hint: str) -> None:
    problem = only_problem(several(patterns))
    assert "fits the whole path of no weight" in problem.message
    assert problem.hint == hint
    assert problem.path[:-1] == ("compile", "optimizer", "MultiOptimizer", "optimizer_map", "optimizer_map")
    assert problem.place is not None
    assert problem.place.text[problem.place.column - 1 :].startswith(str(problem.path[-1]))


def test_expressions_that_fit_the_same_weight() -> None:
    problem = only_problem(several("{dense/.*: sgd, .*/bias: sgd}"))
    assert problem.message == "dense/bias fits several expressions of optimizer_map: dense/.*, .*/bias"


@pytest.mark.parametrize(
    "patterns", ["{dense/.*: sgd}", "{.*/kernel: sgd, dense/bias: rmsprop}", "{dense/bias: sgd}", "{}"]
)
def test_expressions_that_fit(patterns: str) -> None:
    assert isinstance(loaded(several(patterns)), Loaded)


def test_weights_of_inner_layers_and_frozen_ones_have_paths_too() -> None:
    text = several("{around/forward_layer/lstm_cell/kernel: sgd, dense/kernel: sgd}").replace(
        "target_shape: [64]", "target_shape: [8, 8]"
    )
    text = text.replace(
        "- Dense: {units: 32, activation: relu}",
        "- Bidirectional: {name: around, layer: {LSTM: {units: 3, name: forward_layer}}}\n"
        "    - Dense: {units: 4, trainable: false}",
    )
    graph = loaded(text.replace("around/forward_layer/lstm_cell/kernel", "around/.*")).outline.graph
    assert graph is not None
    assert "dense/kernel" in list(graph.weight_paths())


def test_inside_an_optimizer_that_scales_the_loss() -> None:
    inner = "{MultiOptimizer: {optimizer_map: {default_optimizer: adam, optimizer_map: {dens/.*: sgd}}}}"
    problem = only_problem(optimizer(f"{{LossScaleOptimizer: {{inner_optimizer: {inner}}}}}"))
    assert problem.hint == "did you mean dense/.*?"
    assert problem.path[2:4] == ("LossScaleOptimizer", "inner_optimizer")


CALLBACK = "callbacks: [SwapEMAWeights]\n"


def test_averages_that_nothing_keeps() -> None:
    problem = only_problem(DIGITS + CALLBACK)
    assert problem.message == "SwapEMAWeights judges moving averages of the weights, and Adam keeps none"
    assert problem.hint == "optimizer: {Adam: {use_ema: true}}"
    assert problem.path == ("callbacks", 0, "SwapEMAWeights")
    assert isinstance(loaded(optimizer("{Adam: {use_ema: true}}") + CALLBACK), Loaded)
    kept = "{MultiOptimizer: {optimizer_map: {default_optimizer: {Adam: {use_ema: true}}}}}"
    assert isinstance(loaded(optimizer(kept) + CALLBACK), Loaded)


STATEFUL = DIGITS.replace("target_shape: [64]", "target_shape: [8, 8]")


@pytest.mark.parametrize(
    "layer",
    [
        "LSTM: {units: 4, stateful: true}",
        "Bidirectional: {layer: {GRU: {units: 4, stateful: true}}}",
        "Sequential: {layers: [{SimpleRNN: {units: 4, stateful: true}}]}",
    ],
)
def test_states_and_shuffled_rows(layer: str) -> None:
    text = STATEFUL.replace("- Dense: {units: 32, activation: relu}", f"- {layer}")
    problem = only_problem(text)
    assert "is stateful: each row goes on from a row of the batch before" in problem.message
    assert (problem.path, problem.hint) == (("fit", "shuffle"), "fit: {shuffle: false}")
    assert isinstance(loaded(text, "fit.shuffle=false"), Loaded)
    assert isinstance(loaded(text.replace("stateful: true", "stateful: false")), Loaded)


BRIGHT = DIGITS.replace("target_shape: [64]", "target_shape: [8, 8, 1]").replace(
    "    - Dense: {units: 32", "    - Flatten\n    - Dense: {units: 32"
)
STEP = "{RandomBrightness: {factor: 0.2}}"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (BRIGHT.replace("1/16}}]", f"1/16}}}}, {STEP}]"), ("dataset", "inputs", "image", "preprocess", 2)),
        (BRIGHT.replace("{Rescaling: {scale: 1/16}}]", f"Normalization, {STEP}]"),
         ("dataset", "inputs", "image", "preprocess", 2)),
        (BRIGHT.replace("    - Flatten", f"    - {STEP[1:-1]}\n    - Flatten"), ("model", "layers", 0)),
        (BRIGHT.replace(", {Rescaling: {scale: 1/16}}", "").replace(
            "    - Flatten", f"    - Rescaling: {{scale: 1/255}}\n    - {STEP[1:-1]}\n    - Flatten"),
         ("model", "layers", 1)),
    ],
)  # fmt: skip
def test_pixels_that_are_no_longer_0_to_255(text: str, place: tuple[str | int, ...]) -> None:
    problem = only_problem(text)
    assert problem.path == (*place, "RandomBrightness")
    assert "from 0 to 255 by default" in problem.message
    assert "put RandomBrightness before" in problem.hint
    for said in ("[0, 1]", "[0, 255]"):
        assert isinstance(loaded(text.replace("factor: 0.2", f"factor: 0.2, value_range: {said}")), Loaded)


def test_pixels_that_are() -> None:
    before = BRIGHT.replace("{Rescaling", f"{STEP}, {{Rescaling")
    doubled = BRIGHT.replace("scale: 1/16}}]", f"scale: 16}}}}, {STEP}]")
    assert isinstance(loaded(before), Loaded)
    assert isinstance(loaded(doubled), Loaded)


def test_numbers_in_quotes() -> None:
    """The first is a schedule or a number, the second a plain number, the third an integer."""
    text = optimizer('{adam: {learning_rate: "0.001", beta_1: "0.9"}}').replace("units: 32", 'units: "32"')
    with pytest.raises(RecipeError) as caught:
        loaded(text)
    assert [(p.message, p.hint) for p in caught.value.problems] == [
        ('expected an integer above 0, found "32"', "without quotes: 32"),
        ('expected a number or a schedule, found "0.001"', "without quotes: 0.001"),
        ('expected a number from 0 to 1, found "0.9"', "without quotes: 0.9"),
    ]


@pytest.mark.parametrize("rate", ["fast", "0.001s", "-"])
def test_other_texts_get_no_such_hint(rate: str) -> None:
    with pytest.raises(RecipeError) as caught:
        loaded(optimizer(f'{{adam: {{learning_rate: "{rate}"}}}}'))
    assert "quotes" not in caught.value.problems[0].hint
    assert errors(optimizer(f'{{adam: {{beta_1: "{rate}"}}}}'))
