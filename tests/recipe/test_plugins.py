"""Plugins: run once, hashed as run, confined to the recipe's folder, and named with their line when they fail."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from trainer.errors import Problem, RecipeError
from trainer.layers.base import Layer
from trainer.recipe import plugins
from trainer.recipe.document import Document
from trainer.recipe.load import recipe_of
from trainer.recipe.plugins import load_plugins

TIMES = '''
from trainer.layers.base import Layer
from trainer.options import Float

RUNS = []

class TimesHere(Layer, keras=""):
    """x * factor

    Shape: (batch, ...) -> (batch, ...)
    """

    factor: Float = {factor}
    "What x is multiplied with."

    def forward(self, w, x):
        return self.factor * x
'''
RECIPE = """
plugins: [times.py]
dataset: {source: digits}
model: {layers: [TimesHere, Flatten, {Dense: {units: 10, activation: softmax}}]}
compile: {loss: sparse_categorical_crossentropy}
"""


pytestmark = pytest.mark.usefixtures("plugins_forgotten")


def refused(names: object, folder: Path, *, allowed: bool = True) -> Problem:
    with pytest.raises(RecipeError) as caught:
        load_plugins(names, folder, allowed)
    (problem,) = caught.value.problems
    return problem


def test_a_plugin_s_layer_is_a_layer_like_others(tmp_path: Path) -> None:
    file = tmp_path / "times.py"
    file.write_text(TIMES.format(factor=2.0))
    loaded = recipe_of(Document.parse(RECIPE, "r.yaml"), "r", tmp_path)
    assert loaded.plugins == {"times.py": hashlib.sha256(file.read_bytes()).hexdigest()}
    assert loaded.recipe.model.layers[0].spec()["TimesHere"]["factor"] == 2.0
    with pytest.raises(RecipeError) as caught:
        recipe_of(Document.parse(RECIPE.replace("TimesHere,", "{TimesHere: {factr: 1}},")), "r", tmp_path)
    assert caught.value.problems[0].hint == "did you mean factor?"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["times.py"], "no byte code is written beside the recipe"


def test_a_plugin_runs_once_also_from_the_copy_that_a_run_keeps(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for folder in (tmp_path, tmp_path / "run"):
        (folder / "count.py").write_text("import sys\nsys.plugin_runs = getattr(sys, 'plugin_runs', 0) + 1\n")
    try:
        for folder in (tmp_path, tmp_path, tmp_path / "run"):
            load_plugins(["count.py"], folder, True)
        assert vars(sys).pop("plugin_runs") == 1
    finally:
        vars(sys).pop("plugin_runs", None)


def test_a_changed_plugin_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    for factor in (2.0, 3.0, 2.0):
        (tmp_path / "times.py").write_text(TIMES.format(factor=factor))
        load_plugins(["times.py"], tmp_path, True)
        assert Layer.parse("TimesHere").spec()["TimesHere"]["factor"] == factor


def test_two_plugins_of_one_recipe_stand_beside_each_other(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "times.py").write_text(TIMES.format(factor=1.0).replace("TimesHere", f"TimesHere{name}"))
    assert list(load_plugins(["a/times.py", "b/times.py"], tmp_path, True)) == ["a/times.py", "b/times.py"]
    assert {"TimesHerea", "TimesHereb"} <= set(Layer.spellings())
    (tmp_path / "c.py").write_text(TIMES.format(factor=2.0).replace("TimesHere", "TimesHerea"))
    assert "two layer classes are called TimesHerea" in refused(["c.py"], tmp_path).message


FAILURES = {
    "x = 1\nraise ValueError('no')\n": ":2 failed to load: ValueError: no",
    "import nothing_of_that_name\n": ":1 failed to load: ModuleNotFoundError: No module named 'nothing_of_that_name'",
    "def f(:\n": ":1 failed to load: SyntaxError: ",
    "def f():\n    return 1 / 0\n\n\nf()\n": ":2 failed to load: ZeroDivisionError: division by zero",
    "import sys\nsys.exit(7)\n": ":2 failed to load: SystemExit: 7",
    "raise KeyError\n": ":1 failed to load: KeyError",
    "x = 'é'".encode("latin-1"): ":1 failed to load: SyntaxError: ",
    b"x = '\0'\n": " failed to load: SyntaxError: source code string cannot contain null bytes",
    "from trainer.layers.base import Layer\nclass Dense(Layer):\n    pass\n": ":2 failed to load: TypeError: two layer",
}


@pytest.mark.parametrize("text", FAILURES)
def test_a_plugin_that_fails_is_named_with_its_line(tmp_path: Path, text: str | bytes) -> None:
    (tmp_path / "bad.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    problem = refused(["bad.py"], tmp_path)
    assert problem.message.startswith(f"bad.py{FAILURES[text]}")
    assert problem.path == ("plugins", 0)


def test_what_a_failed_plugin_declared_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "times.py").write_text(TIMES.format(factor=2.0) + "\nraise ValueError\n")
    assert "failed to load" in refused(["times.py"], tmp_path).message
    assert "TimesHere" not in Layer.spellings()
    (tmp_path / "times.py").write_text(TIMES.format(factor=2.0))
    load_plugins(["times.py"], tmp_path, True)
    assert "TimesHere" in Layer.spellings()


@pytest.mark.parametrize(
    "name",
    ["../out.py", "sub/../../out.py", "/etc/passwd.py", "link.py", "notes.txt", "", ".", "a\0b.py", "loop.py", "x.pyc"],
)
def test_only_files_beside_the_recipe_are_run(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    for file in (tmp_path / "out.py", folder / "notes.txt", folder / "x.pyc"):
        file.write_text("raise AssertionError('it ran')")
    (folder / "link.py").symlink_to(tmp_path / "out.py")
    (folder / "loop.py").symlink_to(folder / "loop.py")
    assert refused([name], folder).message in (
        f"expected a .py file beside the recipe, found {name}",
        f"there is no file {name} beside the recipe",
    )


def test_missing_and_too_large(tmp_path: Path) -> None:
    assert refused(["none.py"], tmp_path).message == "there is no file none.py beside the recipe"
    (tmp_path / "big.py").write_bytes(b"#" * (plugins.MOST_BYTES + 1))
    assert refused(["big.py"], tmp_path).message == "big.py: expected at most 1,048,576 bytes, found more"
    (tmp_path / "folder.py").mkdir()
    assert "there is no file" in refused(["folder.py"], tmp_path).message


def test_no_plugins_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "times.py").write_text("raise AssertionError('it ran')")
    problem = refused(["times.py"], tmp_path, allowed=False)
    assert problem.message == "the recipe runs Python code from times.py, and --no-plugins forbids it"


@pytest.mark.parametrize("names", [None, "times.py", 3, {"a": 1}, [3], [None]])
def test_what_is_no_list_of_names_is_left_to_the_schema(tmp_path: Path, names: object) -> None:
    (tmp_path / "times.py").write_text("raise AssertionError('it ran')")
    assert load_plugins(names, tmp_path, True) == {}


def test_a_failure_stands_at_its_line_of_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "times.py").write_text("1 / 0")
    with pytest.raises(RecipeError) as caught:
        recipe_of(Document.parse(RECIPE, "r.yaml"), "r", tmp_path)
    assert str(caught.value.problems[0].place) == "r.yaml:2:11"
