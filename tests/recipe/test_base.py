"""Models on a trained base: which layers are taken, with which weights, and what is said when that can't be."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.parity.harness import close
from tests.recipe.test_plugins import TIMES
from tests.train.test_beginning import Place
from tests.train.test_phases import Weights, moved, snapshots
from tests.train.test_resume import assert_same, stop_after
from trainer.errors import RecipeError
from trainer.recipe import plugins
from trainer.runs.directory import RunDirectory
from trainer.train.job import Outcome, resume
from trainer.train.progress import Stopped
from trainer.train.reproduce import reproduce_one
from trainer.train.trial import trial
from trainer.train.use import OpenRun

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HEAD = """
name: {name}
seed: {seed}
dataset:
  source: digits
  inputs: {inputs}
  targets: {{label: {{}}}}
  split: {{test: {{last: 40}}}}
  limit: 120
model:
"""
IMAGE = "{image: {preprocess: [{Reshape: {target_shape: [8, 8, 1]}}, {Rescaling: {scale: 1/16}}]}}"
ROWS = "{image: {preprocess: [{Reshape: {target_shape: [64]}}, {Rescaling: {scale: 1/16}}]}}"
LEFT = ROWS.replace("{image: {", "{left: {field: image, ")
STEPS = "{image: {preprocess: [{Rescaling: {scale: 1/16}}]}}"
TWO = ROWS.replace("{image: {", "{left: {field: image, ").replace(
    "}}]}}", "}}]}, right: {field: image, preprocess: [{Reshape: {target_shape: [64]}}]}}"
)
TAIL = """
compile: {optimizer: {adam: {learning_rate: 0.01}}, loss: sparse_categorical_crossentropy, metrics: [accuracy]}
fit: {epochs: 2, batch_size: 16}
"""
END = "    - Dense: {units: 10, activation: softmax}\n"

CHAIN = """
  layers:
    - Conv2D: {filters: 4, kernel_size: 3}
    - BatchNormalization
    - ReLU
    - Flatten
    - Dense: {units: 12, activation: relu}
    - Dense: {units: 10, activation: softmax}
"""
GRAPH = """
  layers:
    - Conv2D: {filters: 4, kernel_size: 3, padding: same, activation: relu, name: stem}
    - Conv2D: {filters: 4, kernel_size: 3, padding: same, name: deep}
    - Conv2D: {filters: 2, kernel_size: 3, padding: same, name: aside, inputs: stem}
    - Add: {inputs: [deep, stem], name: sum}
    - Concatenate: {inputs: [sum, aside]}
    - Flatten
    - Dense: {units: 10, activation: softmax}
"""
SHARED = """
  layers:
    - Dense: {units: 16, name: eye, activation: relu, inputs: left}
    - eye: {inputs: right}
    - Dense: {units: 16, activation: tanh}
    - eye: {inputs: left, name: third}
    - Concatenate: {inputs: [eye, dense, third], name: joined}
    - Dense: {units: 10, activation: softmax}
"""
NESTED = """
  layers:
    - Sequential:
        name: inner
        layers:
          - BatchNormalization
          - Dense: {units: 16, activation: relu}
    - Model:
        name: whole
        inputs: {x: inner, y: input}
        layers:
          - Dense: {units: 8, name: a, inputs: x}
          - Dense: {units: 8, name: b, inputs: y}
          - Add: {inputs: [a, b]}
    - Dense: {units: 10, activation: softmax}
"""
TENSORS = """
  layers:
    - InputLayer: {shape: [8, 8], name: steps}
    - LSTM: {units: 6, return_sequences: true, return_state: true, name: lstm}
    - GRU: {units: 6, name: gru, inputs: {sequences: steps, initial_state: lstm/1}}
    - MultiHeadAttention: {num_heads: 2, key_dim: 3, name: seen, inputs: {query: lstm/0, value: steps}}
    - GlobalAveragePooling1D
    - Concatenate: {inputs: [gru, global_average_pooling1d], name: both}
    - Dense: {units: 10, activation: softmax}
"""
STACKS = {
    "chain": (IMAGE, CHAIN, "dense"),
    "early": (IMAGE, CHAIN, "re_lu"),
    "graph": (IMAGE, GRAPH, "sum"),
    "shared": (TWO, SHARED, "joined"),
    "called": (TWO, SHARED, "third"),
    "nested": (ROWS, NESTED, "whole"),
    "tensors": (STEPS, TENSORS, "both"),
    "half": (IMAGE, "  dtype: mixed_bfloat16" + CHAIN, "dense"),
    "double": (IMAGE, "  dtype: float64" + CHAIN, "dense"),
}


def first(inputs: str = IMAGE, model: str = CHAIN) -> str:
    return HEAD.format(name="first", seed=1, inputs=inputs) + model + TAIL


def second(base: str, inputs: str = IMAGE, layers: str = "    - Flatten\n" + END) -> str:
    return HEAD.format(name="second", seed=2, inputs=inputs) + f"  base: {base}\n  layers:\n{layers}{TAIL}"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    yield Place(tmp_path)
    for name in [n for n in sys.modules if n.startswith("trainer_plugin_")]:
        plugins._forget(name)
    plugins._loaded.clear()


def opened(place: Place, done: Outcome) -> OpenRun:
    return OpenRun(RunDirectory(done.directory), place.options)


def made(run: OpenRun, layer: str) -> np.ndarray:
    (found,) = run.predict(run.built.columns(run.rows("test")), [layer]).values()
    return found


def of(values: Weights, names: list[str]) -> Weights:
    return {path: array for path, array in values.items() if path.partition("/")[0] in names}


def held(run: OpenRun) -> Weights:
    return {path: t.numpy(force=True) for _, path, t, _ in run.built.network.rows()}


@pytest.mark.parametrize("kind", STACKS)
def test_a_base_is_what_it_was(place: Place, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Its weights before training and, frozen, after it, and what it makes of rows, all to the bit."""
    inputs, model, until = STACKS[kind]
    base = opened(place, place.fit(first(inputs, model), name="first"))
    seen = snapshots(monkeypatch)
    inputs = LEFT if kind == "called" else inputs
    done = place.fit(second(f"{{from: first, until: {until}, trainable: false}}", inputs), name="second")
    run = opened(place, done)
    assert run.recipe.model.weights is not None
    names = [n for n in run.recipe.model.weights.only or () if n in run.built.graph.layers]
    taken = of(held(base), names)
    ((begun, end),) = seen
    assert taken
    assert moved(taken, of(begun, names)) == moved(taken, of(end, names)) == set()
    assert moved(begun, end)
    np.testing.assert_array_equal(made(run, "eye" if kind == "called" else until), made(base, until))
    types = {n: run.built.network.cell(n).layer.dtype or "float32" for n in names}
    assert set(types.values()) == {base.built.graph.dtype}


def test_only_what_leads_to_the_last_layer_is_taken(place: Place) -> None:
    place.fit(first(model=GRAPH), name="first")
    graph = place.loaded(second("{from: first, until: sum}")).outline.graph
    assert graph is not None
    assert list(graph.layers) == ["stem", "deep", "sum", "flatten", "dense"]
    place.fit(first(TWO, SHARED), name="first")
    wiring = place.loaded(second("{from: first, until: third}", LEFT)).outline.wiring
    assert list(wiring.layers) == ["eye", "flatten", "dense"]


def test_own_layers_take_no_weights_of_the_base(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the recipe's own layer gets the name, and has the shape, of a layer that is left behind."""
    base = held(opened(place, place.fit(first(), name="first")))
    seen = snapshots(monkeypatch)
    own = "    - Dense: {units: 10, activation: softmax}\n"
    place.fit(second("{from: first, until: dense}", layers=own), name="second")
    ((begun, _),) = seen
    assert begun["dense_1/kernel"].shape == base["dense_1/kernel"].shape
    assert moved(base, begun) == {"dense_1/kernel", "dense_1/bias"}


def test_names_of_own_layers_go_round_those_of_the_base(place: Place) -> None:
    place.fit(first(), name="first")
    own = "    - Dense: {units: 7}\n    - ReLU\n    - Dense: {units: 10, activation: softmax}\n"
    graph = place.loaded(second("{from: first, until: dense}", layers=own)).outline.graph
    assert graph is not None
    names = ["conv2d", "batch_normalization", "re_lu", "flatten", "dense", "dense_1", "re_lu_1", "dense_2"]
    assert list(graph.layers) == names
    with pytest.raises(RecipeError, match='two layers are called "conv2d"') as caught:
        place.loaded(second("{from: first, until: re_lu}", layers="    - Flatten: {name: conv2d}\n" + END))
    (problem,) = caught.value.problems
    assert problem.place is not None
    assert problem.place.text.strip() == "- Flatten: {name: conv2d}"
    assert problem.path == ("model", "layers", 0, "Flatten", "name")


def test_own_layers_read_any_layer_of_the_base(place: Place) -> None:
    place.fit(first(model=GRAPH), name="first")
    own = "    - Flatten\n    - Flatten: {inputs: stem, name: low}\n    - Concatenate: {inputs: [flatten, low]}\n" + END
    graph = place.loaded(second("{from: first, until: sum}", layers=own)).outline.graph
    assert graph is not None
    assert graph.output_shape == (None, 10)


def test_a_base_trains_unless_it_shall_not(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen is what the recipe says of the base, not what the run's own training froze."""
    place.fit(first(model="  frozen: conv2d\n" + CHAIN), name="first")
    seen = snapshots(monkeypatch)
    place.fit(second("{from: first, until: re_lu, trainable: false}"), name="second")
    place.fit(second("{from: second, until: re_lu}").replace("name: second", "name: third"), name="third")
    (second_, third) = seen
    assert {path.partition("/")[0] for path in moved(*second_)} == {"dense"}
    assert {path.partition("/")[0] for path in moved(*third)} == {"conv2d", "batch_normalization", "dense"}


def test_fine_tuning_in_phases(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head on a frozen base first, then everything, but for the statistics of its normalization."""
    place.fit(first(), name="first")
    seen = snapshots(monkeypatch)
    text = second("{from: first, until: re_lu, trainable: false}")
    text += "phases: [{name: head}, {frozen: [batch*], fit: {epochs: 1}}, {frozen: [], fit: {epochs: 1}}]\n"
    done = place.fit(text, name="second")
    layers = [{path.partition("/")[0] for path in moved(*phase)} for phase in seen]
    everything = {"conv2d", "dense", "batch_normalization"}
    assert layers == [{"dense"}, everything - {"batch_normalization"}, everything]
    assert len(done.epochs) == 4


def test_frozen_layers_of_the_recipe_stay_named(place: Place) -> None:
    place.fit(first(), name="first")
    text = second("{from: first, until: re_lu, trainable: false}").replace("  layers:", "  frozen: dense\n  layers:")
    with pytest.raises(RecipeError, match="all of them are frozen"):
        place.loaded(text)
    with pytest.raises(RecipeError, match='no layer is called "dens"') as caught:
        place.loaded(text.replace("frozen: dense", "frozen: dens"))
    assert caught.value.problems[0].place is not None
    assert caught.value.problems[0].place.text.strip() == "frozen: dens"
    loaded = place.loaded(text.replace("frozen: dense", "frozen: flatten"))
    assert loaded.recipe.model.frozen == ("flatten", "conv2d", "batch_normalization", "re_lu")


def test_several_inputs_go_by_their_names(place: Place) -> None:
    place.fit(first(), name="first")
    text = second("{from: first, until: re_lu}", TWO)
    with pytest.raises(RecipeError, match='the base reads an input "image"; the inputs of this recipe are left, right'):
        place.loaded(text)
    more = IMAGE[:-1] + ", facts: {field: image, preprocess: [{Reshape: {target_shape: [64]}}]}}"
    own = "    - Flatten: {name: flat}\n    - Concatenate: {inputs: [flat, facts]}\n" + END
    graph = place.loaded(second("{from: first, until: re_lu}", more, own)).outline.graph
    assert graph is not None
    assert list(graph.inputs) == ["image", "facts"]
    place.fit(first(TWO, SHARED), name="first")
    with pytest.raises(RecipeError, match='the base reads an input "left"; the inputs of this recipe are image'):
        place.loaded(second("{from: first, until: joined}", ROWS))


@pytest.mark.parametrize("kind", ["chain", "graph", "shared", "nested", "tensors"])
def test_keras_opens_the_model(place: Place, kind: str) -> None:
    inputs, model, until = STACKS[kind]
    place.fit(first(inputs, model), name="first")
    done = place.fit(second(f"{{from: first, until: {until}, trainable: false}}", inputs), name="second")
    run = opened(place, done)
    theirs: Any = keras.models.load_model(done.directory / "model.h5")
    rows = run.rows("test")
    xs = [slot.rows(slice(None)).numpy(force=True) for slot in run.built.feed(rows).xs]
    found = theirs.predict(xs if len(xs) > 1 else xs[0], verbose=0)
    (ours,) = run.predict(run.built.columns(rows)).values()
    close(ours, found, "predictions")
    for name in run.built.graph.layers:
        if name in ("conv2d", "stem", "eye", "inner", "lstm"):
            assert not theirs.get_layer(name).trainable_weights


def test_a_run_on_a_base_stands_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on, and comes out again, by what it keeps itself."""
    place.fit(first(), name="first")
    text = second("{from: first, until: re_lu}")
    whole = place.fit(text, name="second")
    with monkeypatch.context() as patch:
        stop_after(patch, 7)
        with pytest.raises(Stopped):
            place.fit(text, name="second")
    stopped = RunDirectory.find(place.options.runs, "last")
    place.fit(first(), name="first")
    assert_same(whole, resume(stopped, place.options))
    assert all(v.holds for v in reproduce_one(str(whole.directory), place.options, 1, []))
    record = RunDirectory(whole.directory).record()["weights"]
    assert record["file"].endswith("model.h5")


def test_a_dry_run_on_a_base(place: Place) -> None:
    base = place.fit(first(), name="first")
    text = second("{from: first, until: dense}", layers=END) + "phases: [{frozen: conv2d}, {fit: {epochs: 1}}]\n"
    done = trial(place.loaded(text), place.options, place.folder)
    assert len(done["phases"]) == 2
    assert list(place.options.runs.iterdir()) == [base.directory.parent]


def test_rows_of_another_shape_are_refused_by_name(place: Place) -> None:
    place.fit(first(ROWS, NESTED.replace("inputs: {x: inner, y: input}", "inputs: {x: inner, y: inner}")), name="first")
    wide = ROWS.replace("{Reshape: {target_shape: [64]}}", "{Reshape: {target_shape: [8, 8]}}")
    error = place.refused(RecipeError, second("{from: first, until: whole}", wide))
    assert "inner" in str(error)
    assert "(64, 16) in the file, (8, 16) here" in str(error)
    assert error.problems[0].place is not None
    assert error.problems[0].place.text.strip() == "base: {from: first, until: whole}"


MISTAKES: list[tuple[str, tuple[Any, ...], str]] = [
    ("{from: first, until: re_lo}", ("model", "base", "until"), "did you mean re_lu?"),
    ("{from: first, until: nowhere}", ("model", "base", "until"), "its layers are conv2d, batch_normalization"),
    ("{from: frist, until: dense}", ("model", "base", "from"), "did you mean first?"),
    ("{from: model.h5, until: dense}", ("model", "base", "from"), "model.weights.from takes weights out of a file"),
    ("{from: first}", ("model", "base", "until"), "until: The last layer that is taken"),
    ("{from: first, until: dense, x: no}", ("model", "base", "x"), "its options are: from, until, trainable"),
    ("first", ("model", "base"), ""),
]


@pytest.mark.parametrize(("base", "path", "hint"), MISTAKES)
def test_mistakes(place: Place, base: str, path: tuple[Any, ...], hint: str) -> None:
    place.fit(first(), name="first")
    with pytest.raises(RecipeError) as caught:
        place.loaded(second(base))
    (problem,) = caught.value.problems
    assert problem.path == path
    assert hint in problem.hint
    assert problem.place is not None
    assert problem.place.text.strip() == f"base: {base}"


def test_a_base_brings_its_own_weights(place: Place) -> None:
    place.fit(first(), name="first")
    text = second("{from: first, until: dense}").replace("  layers:", "  weights: {from: first}\n  layers:")
    with pytest.raises(RecipeError, match="begins with the weights of its base") as caught:
        place.loaded(text)
    assert caught.value.problems[0].path == ("model", "weights")


def test_other_mistakes_are_still_found(place: Place) -> None:
    """With lines and paths as the recipe has them, though the layers of the base stand before."""
    place.fit(first(), name="first")
    text = second("{from: first, until: dense}", layers="    - Dense: {units: -4}\n" + END)
    with pytest.raises(RecipeError, match="expected an integer above 0") as caught:
        place.loaded(text)
    (problem,) = caught.value.problems
    assert problem.path == ("model", "layers", 0, "Dense", "units")
    assert problem.place is not None
    assert problem.place.text.strip() == "- Dense: {units: -4}"
    text = second("{from: first, until: re_lu}", layers="    - LSTM: {units: 3}\n" + END)
    with pytest.raises(RecipeError, match="lstm") as caught:
        place.loaded(text)
    assert caught.value.problems[0].path == ("model", "layers", 0, "LSTM")


def test_plugins_of_the_base_must_be_the_recipes_too(place: Place) -> None:
    (place.folder / "times.py").write_text(TIMES.replace("{factor}", "3"))
    model = CHAIN.replace("    - BatchNormalization", "    - TimesHere")
    base = place.fit(first(model=model).replace("dataset:", "plugins: [times.py]\ndataset:"), name="first")
    (place.folder / "times.py").unlink()
    text = second("{from: first, until: re_lu}")
    with pytest.raises(RecipeError, match=r"the base holds TimesHere, which is declared by times\.py") as caught:
        place.loaded(text)
    assert caught.value.problems[0].path == ("model", "base")
    (place.folder / "times.py").write_text((base.directory / "times.py").read_text())
    done = place.fit(text.replace("dataset:", "plugins: [times.py]\ndataset:"), name="second")
    run = opened(place, done)
    assert run.built.graph.layers["times_here"].spec()["TimesHere"]["factor"] == 3.0
    # Layers before the plugin's are taken without it.
    assert place.loaded(second("{from: first, until: conv2d}")).recipe.model.layers


def test_a_plugin_edited_since_is_the_recipes_own(place: Place) -> None:
    (place.folder / "times.py").write_text(TIMES.replace("{factor}", "3"))
    model = CHAIN.replace("    - BatchNormalization", "    - TimesHere")
    place.fit(first(model=model).replace("dataset:", "plugins: [times.py]\ndataset:"), name="first")
    (place.folder / "times.py").write_text(TIMES.replace("{factor}", "4") + "# edited\n")
    own = "    - TimesHere\n    - Flatten\n" + END
    text = second("{from: first, until: re_lu}", layers=own).replace("dataset:", "plugins: [times.py]\ndataset:")
    held_ = place.loaded(text).recipe.model.held()
    factors = [getattr(line, "factor", None) for line in held_ if type(line).__name__ == "TimesHere"]
    # What the run wrote out stays; a default is that of the file as it is now.
    assert factors == [3.0, 4.0]
