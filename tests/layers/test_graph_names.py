"""Names that lines get, and what the tensors of a graph are called."""

from __future__ import annotations

from trainer.layers.base import Layer
from trainer.layers.graph import grown
from trainer.layers.lines import written_names
from trainer.layers.models import Model

LINES = [
    {"Dense": {"name": "eye", "inputs": "left", "units": 8}},
    {"eye": {"name": "seen_right", "inputs": "right"}},
    {"Reshape": {"target_shape": [2, 4]}},
    {"LSTM": {"name": "reader", "units": 3, "return_state": True}},
    {"Concatenate": {"name": "both", "inputs": ["eye", "reader/1"]}},
]


def test_written_names_leave_out_those_that_are_given() -> None:
    items = ["Flatten", {"MaxPooling2D": {"name": "flatten_1"}}, "Flatten", {"Flatten": {"name": "flatten"}}, "Dense"]
    assert list(written_names(items)) == ["flatten_2", "flatten_1", "flatten_3", "flatten", "dense"]


def test_a_tensor_is_found_by_the_name_that_a_recipe_reads_it_by() -> None:
    model = Layer.parse({"Model": {"inputs": {"left": "left", "right": "right"}, "layers": LINES}})
    assert isinstance(model, Model)
    graph = grown(model.wiring(), {"left": (None, 8), "right": (None, 8)})
    seen, again = (call for call in graph.calls if call.layer == "eye")
    assert graph.tensor("eye") == seen.output
    assert graph.tensor("seen_right") == again.output != seen.output
    assert graph.tensor("reader/1") in graph.calls[-1].inputs
    assert graph.shapes[graph.tensor("both") or 0] == (None, 11)
    assert [graph.tensor(name) for name in ("left", "reader/7", "ear")] == [None] * 3
