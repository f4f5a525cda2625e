"""Every recipe under recipes/ is a sound document that says what it must reach, and every recipe of the README too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.train.recipes import loaded
from trainer.cli.app import COMMANDS
from trainer.recipe.load import load_recipe
from trainer.train.job import Options, fit

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
BUNDLED = {"digits"}
ELSEWHERE = {"mnist_mlp", "mnist_cnn"}
"Read the published MNIST files, which the data folder has not."
TINY = ["fit.epochs=1", "dataset.limit=96", "expect={}"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_is_a_document(path: Path) -> None:
    text = path.read_text()
    made = load_recipe(path)
    assert text.startswith("# yaml-language-server: $schema=recipe.schema.json\n# ")
    assert f"#   trainer fit recipes/{path.name}\n" in text
    assert re.search(r"^# Measured: .*\d", text, re.M)
    assert made.recipe.name == path.stem
    assert made.recipe.expect
    assert made.recipe.description
    assert f"| [{path.stem}]({path.name}) |" in (ROOT / "recipes" / "README.md").read_text()


@pytest.mark.parametrize("path", [p for p in RECIPES if p.stem not in ELSEWHERE], ids=lambda p: p.stem)
def test_recipe_trains(path: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    data = None if path.stem in BUNDLED else request.getfixturevalue("data_folder")
    sets = [*TINY, *(["dataset.split={}"] if "reuters" in path.stem or "overfitting" in path.stem else [])]
    outcome = fit(load_recipe(path, sets), Options(runs=tmp_path, data=data, device="cpu"), path.read_bytes())
    assert len(outcome.history["loss"]) == 1
    assert outcome.figures


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_examples_in_the_documents_are_sound(name: str) -> None:
    text = (ROOT / name).read_text()
    for block in re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S):
        loaded(block)
    for command in re.findall(r"(?:^|\W)trainer (\w+)", " ".join(re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S))):
        assert command in COMMANDS, f"{name} shows `trainer {command}`"


def test_the_gallery_names_only_recipes_that_are_there() -> None:
    named = set(re.findall(r"\]\((\w+)\.yaml\)", (ROOT / "recipes" / "README.md").read_text()))
    assert named == {p.stem for p in RECIPES}
