"""`extends`: chains, what is merged and what replaced, and mistakes shown in the file that makes them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from trainer.errors import Problem, RecipeError
from trainer.recipe.document import Document, load, merge
from trainer.recipe.load import load_recipe
from trainer.recipe.tree import Tree

BASE = """\
name: base
seed: 1
dataset: {source: digits, split: {test: 0.2}}
model:
  layers:
    - Flatten
    - Dense: {units: 10, activation: softmax}
compile: {optimizer: {Adam: {learning_rate: 0.01, beta_1: 0.8}}, loss: sparse_categorical_crossentropy}
fit: {epochs: 3, batch_size: 32}
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        return path

    return write


def merged(base: str, own: str) -> Any:
    a, b = Document.parse(base, "base.yaml"), Document.parse(own, "own.yaml")
    return merge(Tree(a.value, a.spots), Tree(b.value, b.spots)).value


def refused(path: Path) -> list[Problem]:
    with pytest.raises(RecipeError) as caught:
        load(path)
    return caught.value.problems


MERGES = {
    "mappings are merged": ("a: {b: 1, c: 2}", "a: {c: 3, d: 4}", {"a": {"b": 1, "c": 3, "d": 4}}),
    "lists are replaced": ("a: [1, 2, 3]", "a: [4]", {"a": [4]}),
    "single values are replaced": ("a: 1", "a: {b: 2}", {"a": {"b": 2}}),
    "a mapping by a single value": ("a: {b: 2}", "a: x", {"a": "x"}),
    "null takes a value away": ("fit: {kfold: {folds: 3}}", "fit: {kfold: null}", {"fit": {"kfold": None}}),
    "one entry beside another": (
        "dataset: {split: {test: 1}}",
        "dataset: {split: {validation: 2}}",
        {"dataset": {"split": {"test": 1, "validation": 2}}},
    ),
    "inputs with names like classes": (
        "dataset: {inputs: {A: {}}}",
        "dataset: {inputs: {B: {}}}",
        {"dataset": {"inputs": {"A": {}, "B": {}}}},
    ),
    "another optimizer": (
        "compile: {optimizer: {Adam: {beta_1: 1}}}",
        "compile: {optimizer: {SGD: {momentum: 1}}}",
        {"compile": {"optimizer": {"SGD": {"momentum": 1}}}},
    ),
    "another optimizer, written small": (
        "compile: {optimizer: {adam: {beta_1: 1}}}",
        "compile: {optimizer: {sgd: {momentum: 1}}}",
        {"compile": {"optimizer": {"sgd": {"momentum": 1}}}},
    ),
    "the same optimizer": (
        "compile: {optimizer: {Adam: {beta_1: 1}}}",
        "compile: {optimizer: {Adam: {beta_2: 2}}}",
        {"compile": {"optimizer": {"Adam": {"beta_1": 1, "beta_2": 2}}}},
    ),
    "the same optimizer, spelled otherwise": (
        "compile: {optimizer: {Adam: {beta_1: 1}}}",
        "compile: {optimizer: {adam: {beta_2: 2}}}",
        {"compile": {"optimizer": {"adam": {"beta_1": 1, "beta_2": 2}}}},
    ),
    "the same optimizer as a bare name loses its options": (
        "compile: {optimizer: {Adam: {beta_1: 1}}}",
        "compile: {optimizer: adam}",
        {"compile": {"optimizer": "adam"}},
    ),
    "another schedule of the same optimizer": (
        "compile: {optimizer: {SGD: {learning_rate: {CosineDecay: {decay_steps: 9}}}}}",
        "compile: {optimizer: {SGD: {learning_rate: {ExponentialDecay: {decay_rate: 1}}}}}",
        {"compile": {"optimizer": {"SGD": {"learning_rate": {"ExponentialDecay": {"decay_rate": 1}}}}}},
    ),
    "another source": (
        "dataset: {source: {csv: {path: a}}, target: b}",
        "dataset: {source: {npz: {path: c}}}",
        {"dataset": {"source": {"npz": {"path": "c"}}, "target": "b"}},
    ),
}


@pytest.mark.parametrize("case", MERGES)
def test_merging(case: str) -> None:
    base, own, together = MERGES[case]
    assert merged(base, own) == together


def test_a_chain_over_folders_is_relative_to_each_file(write: Any) -> None:
    write("a/base.yaml", BASE)
    write("a/middle.yaml", "extends: base.yaml\nname: middle\nfit: {epochs: 5}\n")
    path = write("b/child.yaml", "extends: ../a/middle.yaml\nfit: {batch_size: 8}\n")
    loaded = load_recipe(path)
    assert (loaded.recipe.name, loaded.recipe.fit.epochs, loaded.recipe.fit.batch_size) == ("middle", 5, 8)
    assert loaded.recipe.seed == 1
    assert "extends" not in load(path).value
    assert load(path).text == path.read_text()


def test_a_place_is_in_the_file_that_says_it(write: Any) -> None:
    write("base.yaml", BASE)
    path = write("child.yaml", "extends: base.yaml\nfit: {epochs: 5}\ncompile: {optimizer: {adam: {beta_1: 1}}}\n")
    document = load(path)
    for where, file, line in (
        (("fit", "epochs"), "child.yaml", 2),
        (("fit", "batch_size"), "base.yaml", 9),
        (("model", "layers", 1, "Dense", "units"), "base.yaml", 7),
        (("compile", "optimizer", "adam", "beta_1"), "child.yaml", 3),
        (("compile", "optimizer", "adam", "learning_rate"), "base.yaml", 8),
        (("compile", "optimizer", "adam"), "child.yaml", 3),
        ((), "child.yaml", 1),
    ):
        place = document.place(where)
        assert place is not None
        assert (Path(place.file).name, place.line) == (file, line), where


def test_what_a_list_replaced_leaves_no_places_behind(write: Any) -> None:
    write("base.yaml", BASE)
    path = write("child.yaml", "extends: base.yaml\nmodel: {layers: [Flatten]}\n")
    place = load(path).place(("model", "layers", 1, "Dense"))
    assert place is not None
    assert (Path(place.file).name, place.line) == ("child.yaml", 2)


def test_a_mistake_of_the_parent_points_to_the_parent(write: Any) -> None:
    base = write("base.yaml", BASE.replace("units: 10", "units: -4"))
    path = write("child.yaml", "extends: base.yaml\nfit: {epochs: 0}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert [str(p.place) for p in caught.value.problems] == [f"{base}:7:22", f"{path}:2:15"]
    base.write_text("a: [1\n")
    assert [str(p.place) for p in refused(path)] == [f"{base}:1:4"]


def test_circles_name_their_way(write: Any) -> None:
    write("a.yaml", "extends: b.yaml\n")
    write("b.yaml", "extends: sub/../c.yaml\n")
    write("sub/x", "")
    c = write("c.yaml", "extends: a.yaml\n")
    (problem,) = refused(c.parent / "a.yaml")
    assert problem.message == "the recipes extend each other in a circle: a.yaml > b.yaml > c.yaml > a.yaml"
    assert str(problem.place) == f"{c.parent}/sub/../c.yaml:1:10"
    own = write("own.yaml", "name: x\nextends: own.yaml\n")
    (problem,) = refused(own)
    assert (problem.message.split(": ")[1], str(problem.place)) == ("own.yaml > own.yaml", f"{own}:2:10")


def test_a_chain_has_an_end(write: Any) -> None:
    for n in range(8):
        write(f"{n}.yaml", f"extends: {n + 1}.yaml\n")
    path = write("8.yaml", BASE)
    assert load(path.parent / "3.yaml").value["name"] == "base"
    (problem,) = refused(path.parent / "2.yaml")
    assert problem.message == "expected at most 5 recipes that extend each other, found more"


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ("bas.yaml", "No such file or directory"),
        ("3", "expected the file name of another recipe"),
        ("[base.yaml]", "expected the file name of another recipe"),
        ("''", "expected a file"),
        (".", "expected a file"),
        ("/dev/zero", "expected a file"),
        ("pipe", "expected a file"),
        ("loop", "Too many levels"),
        ("list.yaml", "expected a recipe to extend, list.yaml holds no mapping"),
        ("empty.yaml", "expected a recipe to extend, empty.yaml holds no mapping"),
        ("n" * 300, "File name too long"),
    ],
)
def test_what_can_not_be_extended(write: Any, extends: str, message: str) -> None:
    folder = write("base.yaml", BASE).parent
    write("list.yaml", "- 1\n")
    write("empty.yaml", "")
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to(folder / "loop")
    path = write("child.yaml", f"name: child\nextends: {extends}\n")
    (problem,) = refused(path)
    assert message in problem.message
    assert (str(problem.place), problem.path) == (f"{path}:2:10", ("extends",))
    if extends == "bas.yaml":
        assert problem.hint == "did you mean base.yaml?"
