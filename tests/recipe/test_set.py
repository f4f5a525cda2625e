"""`--set PATH=VALUE`: which value a path means, what is made on the way, and mistakes shown in the flag."""

from __future__ import annotations

from typing import Any

import pytest

from tests.train.recipes import loaded
from trainer.errors import Problem, RecipeError
from trainer.recipe.document import Document

RECIPE = """
name: digits
dataset:
  source: digits
  inputs: {image: {preprocess: [{Reshape: {target_shape: [64]}}, {Rescaling: {scale: 1/16}}]}}
model:
  layers:
    - Dense: {units: 32, activation: relu}
    - Dropout: {rate: 0.3}
    - Dense: {units: 16, name: middle}
    - Dense: {units: 8}
    - Flatten
    - Dense: {units: 10, activation: softmax}
compile: {optimizer: adam, loss: sparse_categorical_crossentropy, metrics: [accuracy]}
fit: {epochs: 4, batch_size: 32}
callbacks:
  - LearningRateScheduler: {schedule: {0: 1e-3, 6: 1e-4}}
expect: {test.accuracy: {min: 0.5}, "odd name": {max: 1}}
"""

PREPROCESS = ("dataset", "inputs", "image", "preprocess")
PATHS: list[tuple[str, tuple[Any, ...], Any]] = [
    ("fit.epochs=3", ("fit", "epochs"), 3),
    ("name=other", ("name",), "other"),
    ("seed=7", ("seed",), 7),
    ("fit.validation_split=1/4", ("fit", "validation_split"), "1/4"),
    ("fit.kfold.folds=3", ("fit", "kfold"), {"folds": 3}),
    ("fit.kfold={folds: 3, shuffle: true}", ("fit", "kfold"), {"folds": 3, "shuffle": True}),
    ("fit=", ("fit",), None),
    ("description=a = b", ("description",), "a = b"),
    ("description='no: 1'", ("description",), "no: 1"),
    ("fit.shuffle=no", ("fit", "shuffle"), "no"),
    ("model.layers.0.Dense.units=9", ("model", "layers", 0, "Dense", "units"), 9),
    ("model.layers[0].Dense.units=9", ("model", "layers", 0, "Dense", "units"), 9),
    ("model.layers[0].units=9", ("model", "layers", 0, "Dense", "units"), 9),
    ("model.layers.dense.units=9", ("model", "layers", 0, "Dense", "units"), 9),
    ("model.layers.dense.dense.units=9", ("model", "layers", 0, "Dense", "units"), 9),
    ("model.layers.middle.units=9", ("model", "layers", 2, "Dense", "units"), 9),
    ("model.layers.dense_1.units=9", ("model", "layers", 3, "Dense", "units"), 9),
    ("model.layers.dense_2.units=9", ("model", "layers", 5, "Dense", "units"), 9),
    ("model.layers.dropout.rate=0.1", ("model", "layers", 1, "Dropout", "rate"), 0.1),
    ("model.layers.flatten.name=flat", ("model", "layers", 4), {"Flatten": {"name": "flat"}}),
    ("model.layers.4=Dropout", ("model", "layers", 4), "Dropout"),
    ("model.layers=[Flatten]", ("model", "layers"), ["Flatten"]),
    ("compile.optimizer.learning_rate=0.1", ("compile", "optimizer"), {"adam": {"learning_rate": 0.1}}),
    ("compile.optimizer.adam.learning_rate=0.1", ("compile", "optimizer"), {"adam": {"learning_rate": 0.1}}),
    ("compile.optimizer.Adam.learning_rate=0.1", ("compile", "optimizer"), {"adam": {"learning_rate": 0.1}}),
    ("compile.optimizer={SGD: {momentum: 0.9}}", ("compile", "optimizer"), {"SGD": {"momentum": 0.9}}),
    ("compile.metrics.0=mae", ("compile", "metrics", 0), "mae"),
    ("dataset.inputs.image.preprocess.1.scale=2", (*PREPROCESS, 1, "Rescaling", "scale"), 2),
    ("dataset.split.test=0.2", ("dataset", "split"), {"test": 0.2}),
    ("callbacks.0.schedule.6=1e-5", ("callbacks", 0, "LearningRateScheduler", "schedule", 6), 1e-5),
    ("callbacks.0.schedule.9=1e-5", ("callbacks", 0, "LearningRateScheduler", "schedule", 9), 1e-5),
    ("expect.test.accuracy.min=0.9", ("expect", "test.accuracy", "min"), 0.9),
    ('expect."test.accuracy".min=0.9', ("expect", "test.accuracy", "min"), 0.9),
    ('expect."test.loss".max=0.9', ("expect", "test.loss"), {"max": 0.9}),
    ("expect.odd name.max=2", ("expect", "odd name", "max"), 2),
]  # fmt: skip


@pytest.mark.parametrize(("flag", "path", "value"), PATHS)
def test_a_path_means_a_value(flag: str, path: tuple[Any, ...], value: Any) -> None:
    before = Document.parse(RECIPE, "r.yaml")
    after = before.with_sets([flag])
    assert at(after.value, path) == value
    assert before.value == Document.parse(RECIPE).value
    untouched = [p for p in before.spots if p[: len(path)] != path and path[: len(p)] != p]
    assert untouched
    for other in untouched:
        assert at(after.value, other) == at(before.value, other)
        assert after.place(other) == before.place(other)


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        value = value[part]
    return value


def test_flags_are_applied_in_order() -> None:
    document = Document.parse(RECIPE).with_sets(["fit={epochs: 2}", "fit.batch_size=5", "fit.epochs=9"])
    assert document.value["fit"] == {"epochs": 9, "batch_size": 5}


def test_a_recipe_may_be_begun_by_flags() -> None:
    assert Document.parse("").with_sets(["a.b.c=[1]", "a.d=2"]).value == {"a": {"b": {"c": [1]}, "d": 2}}


def refused(*flags: str) -> list[Problem]:
    with pytest.raises(RecipeError) as caught:
        Document.parse(RECIPE, "r.yaml").with_sets(flags)
    assert all("--set" in str(p) for p in caught.value.problems)
    return caught.value.problems


@pytest.mark.parametrize(
    ("flag", "message", "hint"),
    [
        ("", "--set : expected PATH=VALUE", "--set fit.epochs=3"),
        ("fit.epochs", "--set fit.epochs: expected PATH=VALUE", "--set fit.epochs=3"),
        ("=3", "--set =3: expected PATH=VALUE", ""),
        ("fit..epochs=3", "--set fit..epochs=3: expected PATH=VALUE", ""),
        (".fit=3", "--set .fit=3: expected PATH=VALUE", ""),
        ("fit.=3", "--set fit.=3: expected PATH=VALUE", ""),
        ("fit[x]=3", "--set fit[x]=3: expected PATH=VALUE", ""),
        ("model.layers.6=x", "model.layers: expected a number from 0 to 5, found 6", ""),
        ("model.layers.99999999999=x", 'model.layers: nothing is called "99999999999" here', ""),
        ("model.layers.-1=x", 'model.layers: nothing is called "-1" here', "dense, dropout, middle, dense_1, flatten"),
        ("model.layers.²=x", 'model.layers: nothing is called "²" here', ""),
        ("model.layers.dens.units=1", 'nothing is called "dens" here', "did you mean dense?"),
        ("model.layers.mid.units=1", 'nothing is called "mid" here', "did you mean middle?"),
        ("fit.epochs.x=1", 'there is no "x" in fit.epochs, which is a plain value', ""),
        ("fit.epochs=[1", "this bracket is never closed", ""),
        ("fit.epochs=!!python/name:os.system", "found the tag !!python/name:os.system", ""),
        ("fit.epochs={a: 1, a: 2}", '"a" stands twice here', ""),
    ],
)
def test_a_flag_that_leads_nowhere_is_named(flag: str, message: str, hint: str) -> None:
    (problem,) = refused(flag)
    assert message in str(problem)
    assert hint in problem.hint


def test_an_argument_that_is_no_utf_8_can_be_shown() -> None:
    assert wrong("fit.epochs=\udcff").encode("utf-8").startswith(b"--set fit.epochs=\\udcff fit.epochs: expected")


def wrong(*flags: str) -> str:
    with pytest.raises(RecipeError) as caught:
        loaded(RECIPE.replace(', "odd name": {max: 1}', ""), *flags)
    (problem,) = caught.value.problems
    return str(problem)


def test_the_checker_shows_the_flag_with_a_caret() -> None:
    assert wrong("fit.epochs=-3") == (
        "--set fit.epochs=-3 fit.epochs: expected an integer above 0, found -3\n"
        "   1 | --set fit.epochs=-3\n"
        "     |                  ^^"
    )
    assert wrong("fit.kfold={folds: 1}") == (
        "--set fit.kfold={folds: 1} fit.kfold.folds: expected an integer of 2 or more, found 1\n"
        "   1 | --set fit.kfold={folds: 1}\n"
        "     |                         ^"
    )
    assert wrong("fit.epoch=3").split("\n") == [
        '--set fit.epoch=3 fit.epoch: Fit has no option "epoch"',
        "   1 | --set fit.epoch=3",
        "     |           ^^^^^",
        "       try: did you mean epochs?",
    ]
    assert "did you mean fit?" in wrong("fti.epochs=3")
    assert "did you mean units?" in wrong("model.layers.dense.unit=3")


def test_a_long_flag_is_cut() -> None:
    text = wrong(f"fit.epochs=[{'1, ' * 3000}]")
    assert len(text) < 1500


def test_a_flag_over_a_parent_s_value(tmp_path: Any) -> None:
    from trainer.recipe.document import load

    (tmp_path / "base.yaml").write_text(RECIPE)
    (tmp_path / "child.yaml").write_text("extends: base.yaml\n")
    document = load(tmp_path / "child.yaml", ["fit.epochs=9"])
    assert document.value["fit"] == {"epochs": 9, "batch_size": 32}
    assert str(document.place(("fit", "epochs"))) == "--set fit.epochs=9"
    assert "base.yaml" in str(document.place(("fit", "batch_size")))
