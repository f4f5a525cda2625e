"""Layers meant by names and patterns, and frozen."""

from __future__ import annotations

import pytest

from trainer.errors import RecipeError
from trainer.layers.base import Layer
from trainer.layers.graph import chain
from trainer.model.freezing import frozen, matching
from trainer.model.network import Network

NAMES = ["conv2d", "conv2d_1", "block1_conv", "block2_conv", "a[0]", "Head", "dense"]


@pytest.mark.parametrize(
    ("patterns", "meant"),
    [
        (["conv2d"], ["conv2d"]),
        (["dense", "conv2d"], ["conv2d", "dense"]),
        (["conv*"], ["conv2d", "conv2d_1"]),
        (["block?_*"], ["block1_conv", "block2_conv"]),
        (["*_conv", "block1*"], ["block1_conv", "block2_conv"]),
        (["block[13]_conv"], ["block1_conv"]),
        (["block[!1]_conv"], ["block2_conv"]),
        (["a[0]"], ["a[0]"]),
        (["*"], NAMES),
        ([], []),
        (["[Hh]ead"], ["Head"]),
    ],
)
def test_what_a_pattern_means(patterns: list[str], meant: list[str]) -> None:
    assert matching(NAMES, patterns) == meant


def test_patterns_are_no_regular_expressions() -> None:
    for pattern in ("conv2d.*", "conv2d|dense", "^conv2d$", "conv", "head"):
        with pytest.raises(RecipeError):
            matching(NAMES, [pattern])


def test_patterns_without_a_meaning_are_said_all_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        matching(NAMES, ["conv*", "blok1_*", "zzz*", "dens"], ("model", "trainable"))
    found = caught.value.problems
    assert [p.message for p in found] == [f'no layer is called "{n}"' for n in ("blok1_*", "zzz*", "dens")]
    assert [p.path for p in found] == [("model", "trainable", n) for n in (1, 2, 3)]
    assert [p.hint for p in found] == [
        "did you mean block1_conv?",
        "the layers are conv2d, conv2d_1, block1_conv, block2_conv, a[0], Head, dense",
        "did you mean dense?",
    ]
    with pytest.raises(RecipeError, match="no layer") as caught:
        matching([], ["*"])
    assert caught.value.problems[0].hint == "the model has no layers"


def test_a_long_pattern_takes_no_time() -> None:
    assert matching(["a" * 60], ["*a" * 30 + "*"]) == ["a" * 60]
    with pytest.raises(RecipeError):
        matching(["a" * 60], ["*a" * 30 + "*b"])


def test_frozen_layers_are_frozen_with_all_that_they_hold() -> None:
    specs = [
        {"Conv1D": {"filters": 3, "kernel_size": 1, "name": "first"}},
        {"Bidirectional": {"layer": {"GRU": {"units": 2, "return_sequences": True}}, "name": "second"}},
        {"TimeDistributed": {"layer": {"Pipeline": {"layers": [{"Dense": {"units": 3}}, "BatchNormalization"]}}}},
        {"Dense": {"units": 2}},
    ]
    made = chain([Layer.parse(spec) for spec in specs], {"x": (None, 5, 2)})
    still = frozen(made.layers, ["second", "time_*"])
    assert list(still) == list(made.layers)
    assert [layer.trainable for layer in still.values()] == [True, False, False, True]
    assert all(layer.trainable for layer in made.layers.values())
    assert type(still["second"]) is type(made.layers["second"])
    network = Network(chain([layer.model_copy(update={"name": n}) for n, layer in still.items()], {"x": (None, 5, 2)}))
    moving = {path.split("/")[0] for _, path, tensor, moves in network.rows() if moves and tensor.requires_grad}
    assert moving == {"first", "dense"}
    with pytest.raises(RecipeError, match='no layer is called "third"'):
        frozen(made.layers, ["third"])
