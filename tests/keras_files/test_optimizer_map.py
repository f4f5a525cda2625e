"""Expressions of a MultiOptimizer in a file: the same weights get the same optimizer here, and no match takes long."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import yaml

from trainer.keras_files.importing import Asked, import_file
from trainer.keras_files.optimizer_map import fitted, patterns_of, too_slow
from trainer.runs.directory import RunDirectory
from trainer.train.job import Options

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PATHS = ["dense/kernel", "dense/bias", "block/dense/kernel", "block/dense/bias", "out/kernel", "out/bias"]
layers, optimizers = keras.layers, keras.optimizers


@pytest.mark.parametrize(
    ("patterns", "made", "unused"),
    [
        (["net/out/.*"], ["out/.*"], []),
        (["out/.*", "dense/.*"], ["out/.*", r"dense/kernel|dense/bias|block/dense/kernel|block/dense/bias"], []),
        (["block/dense/.*"], ["block/dense/.*"], []),
        ([".*kernel"], [".*kernel"], []),
        (["net/dense/kernel"], ["dense/kernel"], []),
        (["net/dense/.*|net/out/.*"], ["dense/kernel|dense/bias|out/kernel|out/bias"], []),
        (["(?:net/)?(?:dense/.*|out/.*)"], ["dense/.*|out/.*"], []),
        (["other/.*", "net/out/bias"], ["out/bias"], ["other/.*"]),
    ],
)
def test_fitted(patterns: list[str], made: list[str], unused: list[str]) -> None:
    found = fitted(dict.fromkeys(patterns), PATHS, "net", ["block"])
    assert (list(found[0]), found[1]) == (made, unused)


def several(more: dict[str, Any]) -> dict[str, Any]:
    return {"MultiOptimizer": {"optimizer_map": {"default_optimizer": "adam", **more}}}


@pytest.mark.parametrize(
    ("optimizer", "found"),
    [
        ("adam", {}),
        ({"SGD": {"momentum": 0.9}}, {}),
        ({"LossScaleOptimizer": {"inner_optimizer": {"Adam": {"learning_rate": 0.1}}}}, {}),
        ({"LossScaleOptimizer": {"inner_optimizer": "adam"}}, {}),
        (several({}), {}),
        (several({"optimizer_map": {"a": "sgd"}}), {"a": "sgd"}),
        ({"LossScaleOptimizer": {"inner_optimizer": several({"optimizer_map": {"a": "sgd"}})}}, {"a": "sgd"}),
    ],
)
def test_where_the_expressions_stand(optimizer: Any, found: dict[str, Any]) -> None:
    assert patterns_of(optimizer) == found


def test_the_longest_name_decides() -> None:
    """In a Sequential that was never saved, a weight was called by all of its path."""
    found, _ = fitted({"net/dense/.*": "one", "dense/.*": "other"}, PATHS, "net", ["block"])
    assert found == {"dense/.*": "one", "block/dense/.*": "other"}


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+b", "(a|aa)+b", "(?:a*)*b", "a*" * 12 + "b", "(a|a)" * 40 + "b", "a?" * 40, r"([^/]*){30}x", "(a{9}){9}"],
)
def test_what_may_take_for_ever_is_refused(pattern: str) -> None:
    began = time.process_time()
    assert too_slow({pattern: None}, ["a" * 60 + "/kernel"], "net") == pattern
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "pattern", [".*dense/.*", r"(?:net/)?(?:dense_\d+/(kernel|bias))", "a/.*|b/.*|c/.*", "[ab+*]+/x"]
)
def test_what_people_write_is_not(pattern: str) -> None:
    assert too_slow({pattern: None}, [f"dense_{i}/kernel" for i in range(200)], "net") is None


def model() -> Any:
    inner = keras.Sequential([layers.Dense(3, name="a"), layers.Dense(3, name="b")], name="block")
    stack = [layers.Input((4,)), layers.Dense(2, name="first"), inner, layers.Dense(1, name="z")]
    return keras.Sequential(stack, name="net")


def trained(patterns: dict[str, Any]) -> Any:
    made = model()
    mapping = optimizers.OptimizerMap(optimizers.RMSprop(0.01), patterns)
    made.compile(optimizers.MultiOptimizer(mapping), loss="mse")
    made.fit(np.ones((8, 4)), np.ones((8, 1)), verbose=0)
    return made


def imported(path: Path) -> tuple[dict[str, Any], Any]:
    found = import_file(Asked(path), Options(runs=path.parent / "runs", device="cpu"))
    recipe = yaml.safe_load((RunDirectory(found.directory).path / "recipe.yaml").read_text(encoding="utf-8"))
    return recipe["compile"], found


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_weights_by_the_whole_path_of_a_sequential(ending: str, tmp_path: Path) -> None:
    sgd, adam = optimizers.SGD(0.1, momentum=0.9), optimizers.Adam(0.002)
    made = trained({"net/z/.*": sgd, "net/block/.*/bias": adam})
    made.save(tmp_path / f"net{ending}")
    compiled, found = imported(tmp_path / f"net{ending}")
    inner = compiled["optimizer"]["MultiOptimizer"]["optimizer_map"]
    assert inner == {
        "default_optimizer": {"RMSprop": {"learning_rate": 0.01}},
        "optimizer_map": {
            "z/.*": {"SGD": {"learning_rate": 0.1, "momentum": 0.9}},
            "block/.*/bias": {"Adam": {"learning_rate": 0.002}},
        },
    }
    assert found.optimizer, found.notes


def test_an_expression_that_fits_nothing_is_left_out_with_a_note(tmp_path: Path) -> None:
    trained({"net/zz/.*": optimizers.SGD(0.1)}).save(tmp_path / "net.keras")
    compiled, found = imported(tmp_path / "net.keras")
    assert compiled["optimizer"] == {
        "MultiOptimizer": {
            "optimizer_map": {"default_optimizer": {"RMSprop": {"learning_rate": 0.01}}, "optimizer_map": {}}
        }
    }
    assert "the optimizer for net/zz/.* was left out: no weight is called so" in found.notes


def test_a_slow_expression_costs_the_optimizer_not_the_model(tmp_path: Path) -> None:
    trained({"(n|e|t)+/.*z/.*": optimizers.SGD(0.1)}).save(tmp_path / "net.keras")
    compiled, found = imported(tmp_path / "net.keras")
    assert "optimizer" not in compiled
    assert "the optimizer was left out: matching (n|e|t)+/.*z/.* might take for ever" in found.notes
