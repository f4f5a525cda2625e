"""The JSON Schema: valid draft 07, kept in recipes/, and of one mind with our own checker."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from trainer.errors import RecipeError
from trainer.recipe.document import Document, load
from trainer.recipe.json_schema import KINDS, json_schema
from trainer.recipe.load import recipe_of

RECIPES = Path(__file__).parents[2] / "recipes"
SHIPPED = sorted(RECIPES.glob("*.yaml"))
SCHEMA = json_schema()
VALIDATOR = Draft7Validator(SCHEMA)
NAMES = {kind: kind.spellings() for kind in KINDS}
"Taken together with SCHEMA, before another test's plugin adds to the catalogues."

GOOD = """\
name: digits
dataset:
  source: digits
  inputs: {image: {preprocess: [{Reshape: {target_shape: [64]}}, {Rescaling: {scale: 1/16}}]}}
  targets: {label: {}}
  split: {test: {last: 300}}
model:
  layers:
    - Dense: {units: 32, activation: relu}
    - Dropout: {rate: 0.3}
    - Dense: {units: 10, activation: softmax}
compile: {optimizer: {Adam: {learning_rate: 0.01}}, loss: sparse_categorical_crossentropy, metrics: [accuracy]}
fit: {epochs: 4, batch_size: 32, validation_split: 0.25}
callbacks:
  - EarlyStopping: {monitor: val_loss, patience: 2}
expect:
  test.accuracy: {min: 0.9}
"""


def as_json(text: str) -> Any:
    """What an editor holds against the schema: keys are text."""
    return json.loads(json.dumps(Document.parse(text).value))


def schema_says(text: str) -> list[str]:
    return [f"{list(e.absolute_path)}: {e.message[:300]}" for e in VALIDATOR.iter_errors(as_json(text))]


def checker_says(text: str) -> list[str]:
    try:
        recipe_of(Document.parse(text, "r.yaml"), "r", RECIPES)
    except RecipeError as error:
        return [str(p) for p in error.problems]
    return []


def test_is_a_schema_of_draft_07() -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    text = json.dumps(SCHEMA)
    targets = set(re.findall(r'"\$ref": "#/definitions/([^"]+)"', text))
    assert targets <= set(SCHEMA["definitions"])
    assert "$defs" not in text
    assert "trainer-kind" not in text


def test_the_file_for_editors_is_up_to_date() -> None:
    file = RECIPES / "recipe.schema.json"
    assert json.loads(file.read_text(encoding="utf-8")) == SCHEMA, (
        "the recipe language changed: run `trainer schema -o recipes/recipe.schema.json`"
    )


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_recipes_are_sound(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert schema_says(text) == []
    assert text.startswith("# yaml-language-server: $schema=recipe.schema.json\n")
    merged = json.loads(json.dumps(load(path).value))
    assert list(VALIDATOR.iter_errors(merged)) == []


BLOCKS = (
    "recipe",
    "Dataset",
    "Model",
    "LayerBlock",
    "Weights",
    "Base",
    "Compile",
    "Fit",
    "Phase",
    "PhaseCompile",
    "PhaseFit",
    "Folds",
    "Split",
    "Feature",
    "Expectation",
    "Bounds",
)


def test_every_name_and_option_is_there_with_its_line() -> None:
    definitions = SCHEMA["definitions"]
    for kind in KINDS:
        bare, keyed = definitions[kind.kind]["anyOf"][:2]
        names = set(NAMES[kind])
        assert set(keyed["properties"]) == names
        assert set(bare["enum"]) <= names
        assert definitions[kind.kind]["description"]
        for final in NAMES[kind].values():
            made = definitions[f"{kind.kind}.{final.__name__}"]
            assert made["description"]
            assert set(made.get("properties", {})) == set(final.model_fields)
            assert all(p.get("description") for p in made.get("properties", {}).values()), final
    for block in BLOCKS:
        made = definitions[block]
        assert made["additionalProperties"] is False
        assert [n for n, p in made["properties"].items() if not p.get("description")] == [], block


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


SOUND = {
    "as it is": GOOD,
    "without a name": changed("name: digits\n", ""),
    "bare names": changed("{Adam: {learning_rate: 0.01}}", "adam"),
    "a short name with options": changed("{Adam: ", "{adam: "),
    "options left empty": changed("{Adam: {learning_rate: 0.01}}", "{SGD: null}"),
    "options as an empty mapping": changed("{Adam: {learning_rate: 0.01}}", "{SGD: {}}"),
    "a number as a fraction": changed("validation_split: 0.25", "validation_split: 1/4"),
    "a schedule": changed("0.01", "{ExponentialDecay: {initial_learning_rate: 1, decay_steps: 9, decay_rate: 0.5}}"),
    "a regularizer": changed("activation: relu", "activation: relu, kernel_regularizer: {L2: {l2: 1e-4}}"),
    "an initializer": changed("activation: relu", "kernel_initializer: {GlorotUniform: {seed: 3}}"),
    "null where it may stand": changed("activation: relu", "activation: relu, kernel_regularizer: null"),
    "folds": changed(", validation_split: 0.25", ", kfold: {folds: 3}").replace("monitor: val_loss", "monitor: loss"),
    "class weights": changed("epochs: 4", "epochs: 4, class_weight: {0: 1.0, 1: 2}"),
    "balanced classes": changed("epochs: 4", "epochs: 4, class_weight: balanced"),
    "a part as a share": changed("{last: 300}", "0.2"),
    "a schedule by epochs": changed("callbacks:\n", "callbacks:\n  - LearningRateScheduler: {schedule: {0: 1e-3}}\n"),
    "metrics with options": changed("[accuracy]", "[accuracy, {SparseCategoricalAccuracy: {name: again}}]"),
    "no metrics": changed(", metrics: [accuracy]", "").replace("test.accuracy", "test.loss"),
    "one list of layers": changed("- Dropout: {rate: 0.3}", "- Flatten"),
    "expectations": changed("{min: 0.9}", "{value: 0.9, abs: 0.1, mean: {min: 0.8}}"),
}

BROKEN = {
    "nothing": "",
    "a list": "- 1\n",
    "an unknown block": GOOD + "extra: 1\n",
    "a misspelt block": changed("callbacks:", "calbacks:"),
    "no dataset": changed("dataset:", "datasets:"),
    "no compile": re.sub("compile: .*\n", "", GOOD),
    "no loss": changed(", loss: sparse_categorical_crossentropy", ""),
    "no source": changed("  source: digits\n", ""),
    "no layers": changed("  layers:", "  layrs:"),
    "a name with a slash": changed("name: digits", "name: a/b"),
    "a name that is a number": changed("name: digits", "name: 12"),
    "a name that is empty": changed("name: digits", "name: ''"),
    "a seed below 0": changed("name: digits", "seed: -1"),
    "a seed with a point": changed("name: digits", "seed: 1.5"),
    "a seed of text": changed("name: digits", "seed: '1'"),
    "plugins as text": changed("name: digits", "plugins: a.py"),
    "an unknown source": changed("source: digits", "source: digit"),
    "a source of two names": changed("source: digits", "source: {digits: {}, mnist: {}}"),
    "an unknown option of a source": changed("source: digits", "source: {digits: {path: x}}"),
    "a csv without a path": changed("source: digits", "source: {csv: {}}"),
    "inputs as a list": changed("targets: {label: {}}", "targets: [label]"),
    "an unknown option of a field": changed("targets: {label: {}}", "targets: {label: {fields: x}}"),
    "a split of text": changed("{last: 300}", "most"),
    "a split below 0": changed("{last: 300}", "-0.5"),
    "a split with two ends": changed("{last: 300}", "{last: 300, first: 2}"),
    "an unknown layer": changed("Dropout:", "Dropot:"),
    "a layer of two names": changed("Dropout: {rate: 0.3}", "{Dropout: {rate: 0.3}, Flatten: {}}"),
    "a layer that needs options": changed("- Dropout: {rate: 0.3}", "- Dropout"),
    "a layer as a number": changed("- Dropout: {rate: 0.3}", "- 3"),
    "an unknown option of a layer": changed("units: 32", "unit: 32"),
    "units of text": changed("units: 32", "units: many"),
    "units below 1": changed("units: 32", "units: 0"),
    "units with a point": changed("units: 32", "units: 32.5"),
    "units missing": changed("units: 32, ", ""),
    "a rate above 1": changed("rate: 0.3", "rate: 1.3"),
    "an unknown activation": changed("activation: relu", "activation: relo"),
    "a number for an initializer": changed("activation: relu", "kernel_initializer: 3"),
    "an unknown regularizer": changed("activation: relu", "kernel_regularizer: L3"),
    "a boolean as text": changed("activation: relu", "use_bias: 'yes'"),
    "a boolean as the word no": changed("activation: relu", "use_bias: no"),
    "an unknown optimizer": changed("{Adam:", "{Adm:"),
    "an unknown option of an optimizer": changed("learning_rate: 0.01", "learning_rat: 0.01"),
    "beta above 1": changed("learning_rate: 0.01", "beta_1: 1.5"),
    "an unknown loss": changed("loss: sparse_categorical_crossentropy", "loss: sparse_crossentropie"),
    "an unknown metric": changed("[accuracy]", "[acuracy]"),
    "metrics that are no list": changed("[accuracy]", "accuracy"),
    "epochs below 1": changed("epochs: 4", "epochs: 0"),
    "epochs of null": changed("epochs: 4", "epochs: null"),
    "a split of 1": changed("validation_split: 0.25", "validation_split: 1"),
    "an unknown key of fit": changed("batch_size:", "batchsize:"),
    "one fold": changed(", validation_split: 0.25", ", kfold: {folds: 1}"),
    "folds without a number": changed(", validation_split: 0.25", ", kfold: {shuffle: true}"),
    "a weight below 0": changed("epochs: 4", "epochs: 4, class_weight: {0: -1}"),
    "an unknown callback": changed("EarlyStopping:", "EarlyStoping:"),
    "callbacks that are no list": changed("  - EarlyStopping:", "  EarlyStopping:"),
    "patience below 0": changed("patience: 2", "patience: -2"),
    "an unknown bound": changed("{min: 0.9}", "{least: 0.9}"),
    "a bound of text": changed("{min: 0.9}", "{min: high}"),
}


@pytest.mark.parametrize("case", SOUND)
def test_sound_recipes_pass_in_both(case: str) -> None:
    assert schema_says(SOUND[case]) == []
    assert checker_says(SOUND[case]) == []


@pytest.mark.parametrize("case", BROKEN)
def test_broken_recipes_fail_in_both(case: str) -> None:
    assert schema_says(BROKEN[case]), "the schema takes it"
    assert checker_says(BROKEN[case]), "the checker takes it"


def test_there_are_enough_cases() -> None:
    assert len(BROKEN) >= 50
    assert len(SOUND) >= 20


@pytest.mark.parametrize(
    "text",
    [
        "extends: base.yaml\n",
        "extends: base.yaml\nfit: {epochs: 3}\n",
        "extends: base.yaml\ndataset: {split: {test: 0.1}}\n",
        "extends: base.yaml\ndataset: {source: {csv: {header: false}}}\n",
        "extends: base.yaml\ncompile: {optimizer: {Adam: {beta_1: 0.5}}}\n",
        "extends: base.yaml\nfit: {kfold: {shuffle: true}}\n",
    ],
)
def test_what_extends_another_need_not_be_whole(text: str) -> None:
    assert schema_says(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "extends: 3\n",
        "extends: ''\n",
        "extends: base.yaml\nfit: {epoch: 3}\n",
        "extends: base.yaml\nfit: {epochs: -3}\n",
        "extends: base.yaml\ncompile: {optimizer: {Adm: {}}}\n",
        "extends: base.yaml\nmodel: {layers: [{Dense: {activation: relu}}]}\n",
        "fit: {epochs: 3}\n",
    ],
)
def test_what_extends_another_is_still_held(text: str) -> None:
    assert schema_says(text)


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("Adam: {learning_rate: 0.01}", "Lion: {beta_1: 9/10}"),
        ("Adam: {learning_rate: 0.01}", "Ftrl: {learning_rate_power: -1/2}"),
        ("- Dropout: {rate: 0.3}", "- Discretization: {bin_boundaries: [1/3, 2/3]}"),
        ("{Rescaling: {scale: 1/16}}", "{RandomContrast: {factor: [1/4, 1/2], value_range: [0, 1/2]}}"),
    ],
)
def test_fractions_are_numbers_in_lists_too(line: str, instead: str) -> None:
    assert line in GOOD
    assert schema_says(GOOD.replace(line, instead)) == []


@pytest.mark.parametrize("layer", ["LayerNormalization", "RMSNormalization", "UnitNormalization", "Softmax"])
def test_a_list_of_axes_is_not_empty(layer: str) -> None:
    text = GOOD.replace("- Dropout: {rate: 0.3}", f"- {layer}: {{axis: []}}")
    assert checker_says(text)
    assert schema_says(text)
    assert schema_says(text.replace("[]", "[-1]")) == []
