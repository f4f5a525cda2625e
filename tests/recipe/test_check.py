"""Checks across a whole recipe: every mistake at once, each at its line, with what to try."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.train.recipes import DIGITS, loaded
from trainer.errors import RecipeError
from trainer.recipe.load import load_recipe

SEVEN = """\
name: seven
dataset:
  source: digits
  inputs:
    image: {preprocess: [{Rescaling: {scale: 1/16}}]}
  targets: {labl: {}}
model:
  layers:
    - Dense: {units: -4, activation: relu}
    - Densse: {units: 10}
compile:
  optimizer: {Adam: {learning_rat: 0.1}}
  loss: sparse_categorical_crossentropy
  metrics: [accuracy]
fit: {epochs: 3, batchsize: 32}
callbacks:
  - EarlyStopping: {monitor: loss, patience: -1}
expect:
  test.acuracy: {min: 0.9}
"""


def errors(text: str) -> list[str]:
    """`line:column path: message` of each problem."""
    with pytest.raises(RecipeError) as caught:
        loaded(text)
    found = []
    for p in caught.value.problems:
        assert p.place is not None
        found.append(f"{p.place.line}:{p.place.column} {p.message}")
    return found


def test_seven_mistakes_are_seven_located_errors(tmp_path: Path) -> None:
    file = tmp_path / "seven.yaml"
    file.write_text(SEVEN)
    with pytest.raises(RecipeError) as caught:
        load_recipe(file)
    found = [(p.place.line, p.place.column, p.message) for p in caught.value.problems if p.place]
    assert found == [
        (6, 13, 'the source has no field "labl"; did you mean label?'),
        (9, 22, "expected an integer above 0, found -4"),
        (10, 7, 'there is no layer called "Densse"'),
        (12, 22, 'Adam has no option "learning_rat"'),
        (15, 18, 'Fit has no option "batchsize"'),
        (17, 46, "expected an integer of 0 or more, found -1"),
        (19, 3, 'no run produces "test.acuracy"'),
    ]


CASES = {
    "a dense layer in front of pictures is told by the loss": (
        ("Reshape: {target_shape: [64]}", "Reshape: {target_shape: [8, 8]}"),
        "the target has shape (None,), but dense_1 gives (None, 8, 10)",
    ),
    "a convolution on rows of numbers": (
        ("- Dense: {units: 32, activation: relu}", "- Conv2D: {filters: 4, kernel_size: 3}"),
        "expected input of shape",
    ),
    "softmax missing": ((", activation: softmax", ""), "needs probabilities, but dense_1 ends in linear"),
    "sigmoid for classes": (("activation: softmax", "activation: sigmoid"), "ends in sigmoid"),
    "too few units": (("units: 10", "units: 9"), "the target has 10 classes, but dense_1 has 9 units"),
    "one unit for classes": (("units: 10", "units: 1"), "chooses among classes, but dense_1 has 1 unit"),
    "one-hot loss for class numbers": (
        ("loss: sparse_categorical_crossentropy", "loss: categorical_crossentropy"),
        "needs one-hot targets",
    ),
    "a loss for numbers": (("loss: sparse_categorical_crossentropy", "loss: mse"), "the target has shape (None,)"),
    "nothing makes the monitored value": (
        (", validation_split: 0.25", ""),
        None,
    ),
    "a reshape that loses values": (("target_shape: [64]", "target_shape: [60]"), "64"),
    "a field that is not there": (("image: {preprocess", "picture: {preprocess"), 'no field "picture"'),
    "a layer of the model as preprocessing": (
        ("{Rescaling: {scale: 1/16}}", "{Dense: {units: 3}}"),
        "not a preprocessing",
    ),
    "two layers of one name": (
        ("- Dense: {units: 32,", "- Dense: {name: dense_1, units: 3}\n    - Dense: {name: dense_1, units: 32,"),
        'two layers are called "dense_1"',
    ),
    "kfold beside validation_split": (("epochs: 4,", "epochs: 4, kfold: {folds: 3},"), "kfold makes its own"),
    "nothing to do": (("epochs: 4,", "epochs: 4, initial_epoch: 4,"), "leaves nothing to do"),
    "a layer too large for any machine": (("units: 32", "units: 99999999999999"), "numbers, more than"),
    "two metrics of one name": (("metrics: [accuracy]", "metrics: [accuracy, accuracy]"), "two metrics are called"),
}


@pytest.mark.parametrize("case", [c for c, (_, words) in CASES.items() if words])
def test_each_mistake_is_named(case: str) -> None:
    (old, new), words = CASES[case]
    assert old in DIGITS
    assert any(words in e for e in errors(DIGITS.replace(old, new))), errors(DIGITS.replace(old, new))


def test_monitor_without_validation_names_the_remedy() -> None:
    text = DIGITS.replace(", validation_split: 0.25", "") + "callbacks:\n  - EarlyStopping: {patience: 1}\n"
    with pytest.raises(RecipeError) as caught:
        loaded(text)
    (problem,) = caught.value.problems
    assert problem.message.startswith('nothing produces "val_loss"')
    assert "validation_split" in problem.hint
    assert problem.place is not None
    assert problem.place.line == 18


def test_expectations_must_be_producible() -> None:
    found = errors(DIGITS + "expect:\n  test.acuracy: {min: 0.5}\n  folds.loss.mean: {max: 1}\n")
    assert 'no run produces "test.acuracy"' in found[0]
    assert '"folds.loss.mean" needs folds' in found[1]


def test_a_sound_recipe_has_its_shapes_without_data() -> None:
    outline = loaded().outline
    assert outline.graph is not None
    assert [shape for _, _, shape, _, _ in outline.graph.sizes()] == [(None, 32), (None, 32), (None, 10)]
    assert next(iter(outline.targets.values())).classes is not None


def test_a_flag_is_named_when_its_value_is_wrong() -> None:
    with pytest.raises(RecipeError) as caught:
        loaded(DIGITS, "fit.epochs=-3")
    (problem,) = caught.value.problems
    assert problem.place is not None
    assert "--set fit.epochs=-3" in str(problem)


def test_extends_and_plugins(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(DIGITS)
    (tmp_path / "twice.py").write_text(
        textwrap.dedent(
            '''
            from trainer.layers.base import Layer

            class TwiceAsMuch(Layer, keras=""):
                """x * 2

                Shape: (batch, ...) -> (batch, ...)
                """

                def forward(self, w, x):
                    return 2 * x
            '''
        )
    )
    child = tmp_path / "child.yaml"
    child.write_text(
        "extends: base.yaml\nplugins: [twice.py]\nmodel:\n  layers:\n    - TwiceAsMuch\n"
        "    - Dense: {units: 10, activation: softmax}\n"
    )
    made = load_recipe(child)
    assert [type(layer).__name__ for layer in made.recipe.model.layers] == ["TwiceAsMuch", "Dense"]
    assert list(made.plugins) == ["twice.py"]
    with pytest.raises(RecipeError, match="forbids"):
        load_recipe(child, allow_plugins=False)
    child.write_text("extends: base.yaml\nplugins: [../twice.py]\n")
    with pytest.raises(RecipeError, match="beside the recipe"):
        load_recipe(child)
