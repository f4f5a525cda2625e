"""Drawn graphs: an order of calls that holds, layers in Keras's order, and errors of ours for those that are broken."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

from trainer.errors import Problem, RecipeError
from trainer.layers.lines import Lines
from trainer.layers.wiring import Wiring, wire
from trainer.recipe.document import Document, dump
from trainer.recipe.load import recipe_of

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
GRAPHS, BROKEN = 200, 300
WIDTH = 64


class Drawn:
    """A graph without mistakes: every line leads to an output, and every input is read."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.inputs = [f"in{i}" for i in range(self.random.choice([1, 1, 2, 3]))]
        self.lines: list[dict[str, Any]] = []
        self.names: list[str] = []
        self.layers: list[str] = []
        self.read: set[str] = set()
        for _ in range(self.random.randint(1, 14)):
            self._line(self._some(1 if self.random.random() < 0.6 else self.random.randint(2, 4)))
        for name in self.inputs:
            if name not in self.read:
                self._line([name])
        loose = [n for n in self.names if n not in self.read]
        more = [n for n in self.names if n in self.read and self.random.random() < 0.1]
        self.outputs = self.random.sample([*loose, *more], len(loose) + len(more))
        if self.random.random() < 0.4:
            self.random.shuffle(self.lines)
        elif len(self.inputs) == 1 or self.random.random() < 0.5:
            self._leave_out()

    def _some(self, count: int) -> list[str]:
        """Names to read, late ones more often than early ones."""
        known = [*self.inputs, *self.names]
        weights = [1 + i for i in range(len(known))]
        return self.random.choices(known, weights, k=count)

    def _line(self, reads: list[str]) -> None:
        name = f"layer{len(self.names)}"
        if len(reads) > 1:
            kind: str = self.random.choice(["Add", "Average", "Maximum"])
            line = {kind: {"name": name, "inputs": reads}}
        elif self.layers and self.random.random() < 0.25:
            line = {self.random.choice(self.layers): {"name": name, "inputs": reads}}
        else:
            line = {"Dense": {"name": name, "inputs": reads[0], "units": WIDTH}}
            self.layers.append(name)
        self.lines.append(line)
        self.names.append(name)
        self.read.update(reads)

    def _leave_out(self) -> None:
        """Let lines that read the one above them not say so."""
        above = [self.inputs[0] if len(self.inputs) == 1 else None, *self.names]
        for line, name in zip(self.lines, above, strict=False):
            (options,) = line.values()
            if options["inputs"] in (name, [name]) and self.random.random() < 0.7:
                del options["inputs"]

    def wiring(self) -> Wiring:
        return wire([Lines.line(line) for line in Lines.spelled(self.lines)], self.inputs, self.outputs)

    def recipe(self) -> dict[str, Any]:
        """A recipe of the graph, over the digits."""
        feature = {"field": "image", "preprocess": [{"Reshape": {"target_shape": [WIDTH]}}]}
        compiled = {"loss": "mse" if len(self.outputs) == 1 else dict.fromkeys(self.outputs, "mse")}
        target = {"field": "image", "preprocess": [{"Reshape": {"target_shape": [WIDTH]}}]}
        return {
            "dataset": {
                "source": "digits",
                "inputs": {name: dict(feature) for name in self.inputs},
                "targets": {name: dict(target) for name in self.outputs},
            },
            "model": {"layers": self.lines, "outputs": self.outputs},
            "compile": compiled,
        }


def keras_model(wiring: Wiring) -> keras.Model:
    """The same graph in Keras."""
    tensors = {number: keras.Input((WIDTH,), name=name) for name, number in wiring.inputs.items()}
    inputs = list(tensors.values())
    made: dict[str, keras.Layer] = {}
    for call in wiring.calls:
        kind = type(wiring.layers[call.layer]).__name__
        if call.layer not in made:
            options = {"units": WIDTH} if kind == "Dense" else {}
            made[call.layer] = getattr(keras.layers, kind)(name=call.layer, **options)
        read = [tensors[n] for n in call.inputs]
        tensors[call.output] = made[call.layer](read if kind != "Dense" else read[0])
    return keras.Model(inputs, [tensors[n] for n in wiring.outputs.values()])


@pytest.mark.parametrize("part", range(4))
def test_calls_find_what_they_read_and_layers_stand_in_the_order_of_keras(part: int) -> None:
    for seed in range(part, GRAPHS, 4):
        drawn = Drawn(seed)
        wiring = drawn.wiring()
        known = set(wiring.inputs.values())
        for call in wiring.calls:
            assert known.issuperset(call.inputs), seed
            known.add(call.output)
        assert sorted(wiring.names[call.output] for call in wiring.calls) == sorted(drawn.names), seed
        assert list(wiring.outputs) == drawn.outputs, seed
        layers = [layer.name for layer in keras_model(wiring).layers]
        assert list(wiring.layers) == [name for name in layers if name not in drawn.inputs], seed


def test_what_is_drawn_is_varied() -> None:
    drawn = [Drawn(seed) for seed in range(GRAPHS)]
    assert sum(len(d.inputs) > 1 for d in drawn) > 50
    assert sum(len(d.outputs) > 1 for d in drawn) > 50
    assert sum(next(iter(line)).startswith("layer") for d in drawn for line in d.lines) > 100
    assert sum("inputs" not in next(iter(line.values())) for d in drawn for line in d.lines) > 100
    assert sum([next(iter(line.values()))["name"] for line in d.lines] != d.names for d in drawn) > 40
    assert max(len(d.lines) for d in drawn) > 12


@pytest.mark.parametrize("seed", range(0, 40, 5))
def test_a_drawn_graph_is_a_sound_recipe(seed: int) -> None:
    drawn = Drawn(seed)
    loaded = recipe_of(Document.parse(dump(drawn.recipe())), "drawn", Path())
    assert list(loaded.outline.wiring.outputs) == drawn.outputs
    assert loaded.outline.graph is not None


BLOCKS = {
    "wide": {
        "parameters": ["units", {"again": 2}],
        "layers": [
            {"Dense": {"name": "in", "inputs": "input", "units": "$units"}},
            {"Dense": {"name": "out", "units": "$again * 32"}},
            {"Add": {"inputs": ["input", "out"]}},
        ],
    },
    "two": {
        "inputs": ["a", "b"],
        "layers": [{"wide": {"name": "w", "inputs": "a", "units": 3}}, {"Add": {"inputs": ["w", "b"]}}],
    },
}
JUNK: list[Any] = [
    None,
    True,
    0,
    -3,
    1.5,
    "",
    "x",
    "$x",
    "$units * ",
    "layer1",
    "layer1/0",
    "layer0/x/1",
    "input",
    "a/",
    "/",
]
JUNK += [
    [],
    {},
    [[]],
    {"x": {}},
    ["layer0", None],
    {"layer": "layer0"},
    {"inputs": "layer2"},
    10**30,
    "wide",
    {"wide": None},
]
JUNK += [
    {"Model": {"layers": ["layer0", {"wide": {"units": 1}}], "outputs": ["q"]}},
    {"Sequential": {"layers": ["two"]}},
]


def places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a value."""
    inner = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    return [(value, key) for key, _ in inner] + [place for _, v in inner for place in places(v)]


def _replace(draw: random.Random, holder: Any, key: Any) -> None:
    holder[key] = copy.deepcopy(draw.choice(JUNK))


def _remove(draw: random.Random, holder: Any, key: Any) -> None:
    del holder[key]


def _double(draw: random.Random, holder: Any, key: Any) -> None:
    if isinstance(holder, list):
        holder.insert(draw.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
    else:
        holder[f"{key}{draw.choice(['', '_1', 'x'])}"] = copy.deepcopy(holder[key])


def _rename(draw: random.Random, holder: Any, key: Any) -> None:
    if isinstance(holder, dict):
        holder[draw.choice(["inputs", "name", "layers", "layer3", "wide", "Dense", "Add", "times", "each", 7])] = (
            holder.pop(key)
        )


def _reread(draw: random.Random, holder: Any, key: Any) -> None:
    if isinstance(holder[key], (str, list)):
        holder[key] = f"layer{draw.randrange(6)}{draw.choice(['', '', '/0', '/9'])}"


CHANGES: list[Callable[[random.Random, Any, Any], None]] = [_replace, _remove, _double, _rename, _reread, _reread]


def broken(seed: int) -> str:
    """The text of a drawn recipe that was changed at random in one to four places."""
    draw = random.Random(seed)
    value = Drawn(seed % 97).recipe()
    value["model"]["blocks"] = copy.deepcopy(BLOCKS)
    first = value["model"]["layers"][0]
    use = {"wide": {"units": 4, "inputs": next(iter(value["dataset"]["inputs"]))}}
    value["model"]["layers"] = [
        first,
        draw.choice([use, {"two": {"inputs": ["layer0", "layer0"]}}]),
        *value["model"]["layers"][1:],
    ]
    value = Document.parse(dump(value)).value
    for _ in range(draw.randint(1, 4)):
        holder, key = draw.choice(places(value["model"] if draw.random() < 0.85 and "model" in value else value))
        draw.choice(CHANGES)(draw, holder, key)
        if not isinstance(value.get("model"), (dict, list)) or not value["model"]:
            break
    return dump(value)


@pytest.mark.parametrize("part", range(4))
def test_a_broken_recipe_gets_errors_of_ours(part: int) -> None:
    refused = 0
    for seed in range(part, BROKEN, 4):
        text = broken(seed)
        found = problems_of(text)
        refused += bool(found)
        assert all(p.message and p.place is not None for p in found), (seed, found)
        assert all(p.place and 1 <= p.place.line <= text.count("\n") + 1 for p in found), (seed, found)
    assert refused > BROKEN // 4 * 0.8


def problems_of(text: str) -> list[Problem]:
    """What is wrong with a recipe; anything but a RecipeError ends the test."""
    try:
        recipe_of(Document.parse(text, "drawn.yaml"), "drawn", Path())
    except RecipeError as error:
        return error.problems
    return []
