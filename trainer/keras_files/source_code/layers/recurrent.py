"""Recurrent layers: torch's own where they compute the same, steps one by one otherwise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainer.activations.elementwise import Relu, Sigmoid, Tanh
from trainer.keras_files.source_code.layers.functions import as_function
from trainer.keras_files.source_code.layers.windows import PLACE, _turned, channels_last, filled, padding
from trainer.keras_files.source_code.piece import Given, NoSource, Piece, Spot, given_only, piece_of, says, under
from trainer.keras_files.source_code.text import call, literal, one_or_all
from trainer.layers.conv_lstm import ConvLSTM
from trainer.layers.recurrent import GRU, LSTM, Recurrent, SimpleRNN
from trainer.layers.recurrent_cells import RNN, GRUCell, LSTMCell, SimpleRNNCell, StackedRNNCells
from trainer.layers.recurrent_fused import gate_rows
from trainer.layers.recurrent_sequences import Sequenced
from trainer.layers.recurrent_wrappers import Bidirectional, TimeDistributed

KINDS = {"nn.LSTM": (LSTM, LSTMCell), "nn.GRU": (GRU, GRUCell), "nn.RNN": (SimpleRNN, SimpleRNNCell)}
"torch's layers and ours that are of the kind."
CELLS = dict(zip(("LSTMCell", "GRUCell", "SimpleRNNCell"), KINDS.values(), strict=True))


def kind_of(layer: Any) -> str | None:
    """torch's layer with the same step; None where there is none."""
    found = next((name for name, classes in KINDS.items() if isinstance(layer, classes)), None)
    if found is None or layer.dropout or layer.recurrent_dropout:
        return None
    if found == "nn.RNN":
        return found if isinstance(layer.activation, (Tanh, Relu)) else None
    standard = isinstance(layer.activation, Tanh) and isinstance(layer.recurrent_activation, Sigmoid)
    return found if standard and getattr(layer, "reset_after", True) else None


def torch_layer(layer: Any, w: Any, **more: str | None) -> tuple[str, dict[str, Tensor]]:
    """torch's layer with one step like this one's, and its weights without the end of their names."""
    name = kind_of(layer) or ""
    options = {
        "nonlinearity": '"relu"' if name == "nn.RNN" and isinstance(layer.activation, Relu) else None,
        "bias": None if layer.use_bias else "False",
        "batch_first": "True",
    }
    order = {"nn.GRU": (1, 0, 2), "nn.LSTM": (0, 1, 2, 3), "nn.RNN": (0,)}[name]
    weights = {"weight_ih": gate_rows(w.kernel, order), "weight_hh": gate_rows(w.recurrent_kernel, order)}
    if w.bias is not None and name == "nn.GRU":
        turned = w.bias.reshape(2, 3, -1)[:, list(order)].reshape(2, -1)
        weights |= {"bias_ih": turned[0], "bias_hh": turned[1]}
    elif w.bias is not None:
        # Keras has one bias: torch's second one stays at zero.
        weights |= {"bias_ih": w.bias, "bias_hh": torch.zeros_like(w.bias).detach()}
    inputs = literal(w.kernel.shape[0])
    return call(name, inputs, literal(layer.units), **options, **more), weights


def cell_text(layer: Any, w: Any) -> tuple[str, dict[str, Tensor]]:
    """A cell as one of the pieces of `plain/recurrent.py`, and its weights."""
    if isinstance(layer, StackedRNNCells):
        made, weights = [], {}
        for number, cell in enumerate(layer.cells):
            text, own = cell_text(cell, getattr(w, f"cell_{number}"))
            made.append(text)
            weights |= under(f"cells.{number}", own)
        return call("StackedCells", *made), weights
    name = next((n for n, classes in CELLS.items() if isinstance(layer, classes)), None)
    if name is None:
        raise NoSource(f"there is no plain PyTorch for its cell {type(layer).__name__} here yet")
    if name == "GRUCell" and not layer.reset_after:
        name = "GRUCellBefore"
    gate = getattr(layer, "recurrent_activation", Sigmoid())
    options = {
        "activation": None if isinstance(layer.activation, Tanh) else as_function(layer.activation),
        "gate": None if isinstance(gate, Sigmoid) else as_function(gate),
        "bias": None if w.bias is None else literal(tuple(w.bias.shape)),
        "dropout": literal(layer.dropout) if layer.dropout else None,
        "recurrent_dropout": literal(layer.recurrent_dropout) if layer.recurrent_dropout else None,
    }
    weights = given_only(kernel=w.kernel, recurrent_kernel=w.recurrent_kernel, bias=w.bias)
    return call(name, literal(w.kernel.shape[0]), literal(layer.units), **options), weights


def stepwise(layer: Any, cell: str, weights: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """A cell taken over a sequence."""
    if layer.stateful:
        raise NoSource("a stateful layer is not written here yet")
    options = {
        "sequences": "True" if layer.return_sequences else None,
        "states": "True" if layer.return_state else None,
        "backwards": "True" if layer.go_backwards else None,
        "zero_masked": "True" if layer.zero_output_for_mask else None,
    }
    return call("Recurrent", cell, **options), under("cell", weights)


def sequence(layer: Any, w: Any, shape: Any) -> tuple[str, dict[str, Tensor]]:
    """Any recurrent layer as steps one by one."""
    if isinstance(layer, ConvLSTM):
        return stepwise(layer, *conv_cell(layer, w, shape))
    own = (layer.cell, w.cell) if isinstance(layer, RNN) else (layer, w)
    return stepwise(layer, *cell_text(*own))


def _goes_on(layer: Sequenced, given: Given, outputs: int = 1) -> list[str | None]:
    mask = given.mask if layer.return_sequences else None
    return [mask] * outputs + [None] * 8


@says(Recurrent, RNN, ConvLSTM)
def recurrent(spot: Spot) -> Piece:
    layer, w = spot.layer, spot.w
    plain = not (spot.masked or layer.return_state or layer.stateful or len(spot.shapes) > 1)
    cell, own = (layer.cell, w.cell) if isinstance(layer, RNN) else (layer, w)
    if plain and not isinstance(layer, ConvLSTM) and kind_of(cell) is not None:
        made, weights = torch_layer(cell, own)
        turned = ".flip(1)" if layer.go_backwards else ""
        last = "" if layer.return_sequences else "[:, -1]"
        return Piece(
            lambda given: f"{given.module}({given.x}{turned})[0]{last}",
            made,
            {f"{name}_l0": value for name, value in weights.items()},
            mask=lambda given: _goes_on(layer, given),
        )
    made, weights = sequence(layer, w, spot.shape)
    return Piece(_with_mask, made, weights, mask=lambda given: _goes_on(layer, given))


def _with_mask(given: Given) -> str:
    return given.module_of(None if given.mask is None else f"mask={given.mask}")


def conv_cell(layer: ConvLSTM, w: Any, shape: Any) -> tuple[str, dict[str, Tensor]]:
    """A ConvLSTM's step."""
    if layer.dropout or layer.recurrent_dropout:
        raise NoSource("dropout of a ConvLSTM is not written here yet")
    rank, windows = layer.rank, layer.kernel_size
    one = Spot(_Standing(layer), ((shape[0], *shape[2:]),), None)
    first, around = filled(one, windows, layer.strides, layer.dilation_rate)
    options = {
        "stride": None if set(layer.strides) == {1} else one_or_all(layer.strides),
        "padding": around,
        "dilation": None if set(layer.dilation_rate) == {1} else one_or_all(layer.dilation_rate),
        "bias": None if w.bias is not None else "False",
    }
    columns = literal(4 * layer.filters)
    inputs = call(f"nn.Conv{rank}d", literal(w.kernel.shape[-2]), columns, one_or_all(windows), **options)
    before = [((k - 1) // 2, k - 1 - (k - 1) // 2) for k in windows]
    state = call(f"nn.Conv{rank}d", literal(layer.filters), columns, one_or_all(windows), bias="False")
    place = "" if layer.channels_at() == "channels_first" else f"{PLACE}."
    own = "1." if first else ""
    weights = {f"inputs.{place}{own}{k}": v for k, v in given_only(weight=_turned(w.kernel, rank), bias=w.bias).items()}
    weights[f"state.{place}1.weight"] = _turned(w.recurrent_kernel, rank)
    inputs = channels_last(layer, f"nn.Sequential({first}, {inputs})" if first else inputs)
    state = channels_last(layer, f"nn.Sequential({padding(rank, before)}, {state})")
    gate = layer.recurrent_activation
    functions = {
        "activation": None if isinstance(layer.activation, Tanh) else as_function(layer.activation),
        "gate": None if isinstance(gate, Sigmoid) else as_function(gate),
    }
    channels = "1" if layer.channels_at() == "channels_first" else "-1"
    return call("ConvLSTMCell", inputs, state, channels, **functions), weights


class _Standing:
    """A layer where a built one is asked for, by those who need its options alone."""

    def __init__(self, layer: Any):
        self.layer = layer


@says(Bidirectional)
def bidirectional(spot: Spot) -> Piece:
    layer, w = spot.layer, spot.w
    forwards, backwards = layer.pair()
    count = 2 if layer.merge_mode is None else 1

    def mask(given: Given) -> list[str | None]:
        return _goes_on(forwards, given, count)

    if _both_in_one(spot):
        made, ahead = torch_layer(forwards, w.forward_layer, bidirectional="True")
        _, back = torch_layer(backwards, w.backward_layer)
        weights = {f"{n}_l0": v for n, v in ahead.items()} | {f"{n}_l0_reverse": v for n, v in back.items()}
        return Piece(lambda given: f"{given.module}({given.x})[0]", made, weights, mask=mask)
    first, ahead = sequence(forwards, w.forward_layer, spot.shape)
    second, back = sequence(backwards, w.backward_layer, spot.shape)
    merge = None if layer.merge_mode == "concat" else literal(layer.merge_mode)
    weights = under("forwards", ahead) | under("backwards", back)
    return Piece(_with_mask, call("Bidirectional", first, second, merge), weights, mask=mask)


def _both_in_one(spot: Spot) -> bool:
    """Whether torch's bidirectional layer does the same."""
    layer = spot.layer
    forwards, backwards = layer.pair()
    like = {"name", "go_backwards", "zero_output_for_mask"}
    alike = type(forwards) is type(backwards) and forwards.model_dump(exclude=like) == backwards.model_dump(
        exclude=like
    )
    usual = layer.merge_mode == "concat" and forwards.return_sequences and not forwards.go_backwards
    plain = not (spot.masked or forwards.return_state or forwards.stateful or len(spot.shapes) > 1)
    return alike and usual and plain and isinstance(forwards, Recurrent) and kind_of(forwards) is not None


@says(TimeDistributed)
def time_distributed(spot: Spot) -> Piece:
    layer, w = spot.layer, spot.w
    if spot.masked and layer.layer.takes_mask:
        raise NoSource(f"a mask for {type(layer.layer).__name__} inside is not written here yet")
    one = Spot(w.inner, ((spot.shape[0], *spot.shape[2:]),), (spot.made[0], *spot.made[2:]), (False,))
    inner = piece_of(one)
    if any(inner.returned):
        raise NoSource("a model inside that makes masks is not written here yet")

    def each(given: Given) -> str:
        if inner.buffers:
            step = inner.call(Given(given.module, ("step",), (None,)))
            return f"torch.stack([{step} for step in {given.x}.unbind(1)], 1)"
        rows = inner.call(Given(given.module, (f"{given.x}.flatten(0, 1)",), (None,)))
        return f"{rows}.unflatten(0, {given.x}.shape[:2])"

    return Piece(each, inner.module, inner.weights, inner.buffers, before=inner.before, notes=inner.notes)
