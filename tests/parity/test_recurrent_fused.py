"""The kernels of torch's that recurrent layers go through on a GPU, held here on the processor.

torch.lstm and its kin give the same numbers on both; which way a layer goes is a question of values (device, number
type, mask), so that the answer for a GPU can be asked without one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.parity import recurrent_twins
from tests.parity.double import equal_weights, twin_in_double
from tests.parity.drawing import normal
from tests.parity.harness import cell_of, close, random_weights
from tests.parity.recurrent_twins import RecurrentTwins, drawn_mask, states_for
from trainer.layers import recurrent_kernels, recurrent_steps
from trainer.layers.recurrent import Recurrent
from trainer.layers.recurrent_fused import has_kernel, has_onednn, in_one_piece
from trainer.layers.recurrent_gru_kernels import GRU_AFTER, GRU_BEFORE
from trainer.layers.recurrent_kernels import LSTM, SIMPLE_RELU, SIMPLE_TANH, is_fused
from trainer.model.cell import Cell

GPU, CPU = torch.device("cuda"), torch.device("cpu")
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
SPECS: list[dict[str, Any]] = [
    {"SimpleRNN": {}}, {"SimpleRNN": {"activation": "relu"}}, {"LSTM": {}}, {"GRU": {}},
]  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", [LSTM, GRU_AFTER, SIMPLE_TANH, SIMPLE_RELU])
def test_which_way_a_layer_goes(kind: Any, dtype: torch.dtype) -> None:
    assert has_kernel(kind.fused, GPU, dtype)
    assert has_kernel(kind.fused, CPU, dtype) == (kind is LSTM and dtype == torch.float32 and has_onednn())
    assert not has_kernel(kind.fused, torch.device("meta"), dtype)
    assert not has_kernel(kind.fused, GPU, torch.int64)


def test_what_torch_lacks() -> None:
    """A reset gate before the recurrent product, masks, and batches of no rows."""
    assert not any(has_kernel(GRU_BEFORE.fused, device, torch.float32) for device in (GPU, CPU))
    x = torch.zeros(2, 3, 4)
    if has_onednn():
        assert is_fused(LSTM, x, None)
    assert not is_fused(LSTM, x, torch.ones(2, 3, dtype=torch.bool))
    assert not is_fused(LSTM, x[:0], None)


def layer_of(spec: dict[str, Any], **options: Any) -> tuple[Cell, Recurrent]:
    ((name, own),) = spec.items()
    cell, _ = cell_of({name: {"units": 4, **own, **options}}, (None, None, 3))
    for (_, _, tensor, _), value in zip(cell.rows(), random_weights(cell), strict=True):
        tensor.data.copy_(torch.from_numpy(value))
    assert isinstance(cell.layer, Recurrent)
    return cell, cell.layer


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("time", [1, 9])
def test_equals_the_loop(spec: dict[str, Any], dtype: torch.dtype, use_bias: bool, started: bool, time: int) -> None:
    """All outputs and last states, and the gradients of input, weights and first states through both of them."""
    cell, layer = layer_of(spec, use_bias=use_bias)
    cell.to(dtype)
    x, *first = (
        torch.from_numpy(normal(n, *shape)).to(dtype).requires_grad_()
        for n, shape in enumerate([(5, time, 3), *[(5, 4)] * layer.carried])
    )
    start, kind = tuple(first) if started else None, layer.recurrence()
    assert kind is not None
    assert kind.fused is not None
    found = []
    three: Any = (cell.kernel, cell.recurrent_kernel, cell.bias)
    weights = [w for w in three if w is not None]
    for outputs, last in (
        kind.fused(x, start, *three),
        layer.loop(cell, x, None, start=start, every=True),
    ):
        made = [outputs, *last]
        assert len(last) == layer.carried
        total = sum(((t * torch.from_numpy(normal(9, *t.shape))).sum() for t in made), torch.zeros((), dtype=dtype))
        found.append([*made, *torch.autograd.grad(total, [x, *weights, *(start or ())])])
    tolerance = 1e-13 if dtype == torch.float64 else 2e-6
    for number, (ours, plain) in enumerate(zip(*found, strict=True)):
        assert ours.dtype == dtype
        close(ours, plain, f"tensor {number}", tolerance)


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Layers take the way that they would take on a GPU; names of the kernels that were called."""
    called: list[str] = []

    def note(fused: Any, device: torch.device, dtype: torch.dtype) -> bool:
        takes = has_kernel(fused, GPU, dtype)
        called.extend([fused.__name__] if takes else [])
        return takes

    monkeypatch.setattr(recurrent_kernels, "has_kernel", note)
    # Compiled code is for processors.
    monkeypatch.setattr(recurrent_twins, "compiler", lambda: None)
    return called


NAMES = ["SimpleRNN", "LSTM", "GRU"]


def drawn(name: str, seed: int) -> tuple[dict[str, Any], np.random.Generator]:
    """Options of one configuration, most of which have a kernel."""
    random = np.random.default_rng([13, NAMES.index(name), seed])
    options: dict[str, Any] = {"units": int(random.integers(1, 6)), "use_bias": bool(random.random() < 0.7)}
    for option in ("return_sequences", "return_state", "go_backwards", "unroll"):
        options[option] = bool(random.random() < 0.5)
    if name == "SimpleRNN":
        options["activation"] = str(random.choice(["tanh", "relu"]))
    if name == "GRU":
        options["reset_after"] = bool(random.random() < 0.9)
    return options, random


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(60))
def test_layers_equal_keras(name: str, seed: int, as_on_a_gpu: list[str]) -> None:
    options, random = drawn(name, seed)
    batch, features = (int(n) for n in random.integers(2, 6, 2))
    time = int(random.integers(1, 7))
    mask = drawn_mask(random, 0.2, batch, time)
    if mask is not None:
        # Keras 3.15 flips a tuple of masks when it unrolls backwards, and fails.
        options["unroll"] = False
    with_states = random.random() < 0.5
    twins = RecurrentTwins({name: options}, (None, time, features), 9 if with_states else 0, seed)
    given = states_for(twins, batch, seed) if with_states else []
    twins.hold(normal(seed, batch, time, features), given, mask, training=bool(seed % 2), seed=seed)
    kernel = {"SimpleRNN": f"rnn_{options.get('activation')}"}.get(name, name.lower())
    assert as_on_a_gpu == ([kernel] if mask is None and options.get("reset_after", True) else [])


@pytest.mark.parametrize("name", NAMES)
def test_a_state_goes_on_from_batch_to_batch(name: str, as_on_a_gpu: list[str]) -> None:
    twins = RecurrentTwins({name: {"units": 3, "stateful": True}}, (4, 5, 2), seed=1)
    for step in range(3):
        twins.hold(normal(step, 4, 5, 2), training=step < 2, seed=step)
        for (path, ours), theirs in zip(twins.cell.states(), twins.twin.states, strict=True):
            close(ours, theirs.value, f"{path} after batch {step}")
    assert len(as_on_a_gpu) == 3


@pytest.mark.parametrize("wrapped", ["Bidirectional", "RNN"])
@pytest.mark.parametrize("name", NAMES)
def test_wrapped_layers_and_cells(name: str, wrapped: str, as_on_a_gpu: list[str]) -> None:
    inner = {"layer": {name: {"units": 3}}} if wrapped == "Bidirectional" else {"cell": {f"{name}Cell": {"units": 3}}}
    RecurrentTwins({wrapped: inner}, (None, 5, 2), seed=1).hold(normal(1, 4, 5, 2))
    assert len(as_on_a_gpu) == (2 if wrapped == "Bidirectional" else 1)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("every", [True, False])
@pytest.mark.usefixtures("keras_in_double")
def test_layers_equal_keras_in_double(spec: dict[str, Any], every: bool, as_on_a_gpu: list[str]) -> None:
    cell, layer = layer_of(spec, return_sequences=every, go_backwards=every)
    cell.double()
    twin = twin_in_double(layer, (None, 7, 3))
    equal_weights(cell, twin)
    mine, other = (torch.from_numpy(normal(1, 5, 7, 3)).double().requires_grad_() for _ in range(2))
    ours, theirs = cell(mine), twin(other)
    assert as_on_a_gpu
    close(ours, theirs, "output", 1e-10)
    pull = torch.from_numpy(normal(2, *ours.shape)).double()
    (ours * pull).sum().backward()
    (theirs * pull).sum().backward()
    close(mine.grad, other.grad, "gradient of the input", 1e-10)
    for (_, path, tensor, _), variable in zip(cell.rows(), twin.trainable_weights, strict=True):
        close(tensor.grad, variable.value.grad, f"gradient of {path}", 1e-10)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_dropout_of_the_input_goes_along_and_that_of_the_state_does_not(
    spec: dict[str, Any], as_on_a_gpu: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.from_numpy(normal(1, 5, 6, 3))
    cell, layer = layer_of(spec, dropout=0.5, seed=3)
    drops = layer.drops(layer_of(spec, dropout=0.5, seed=3)[0].train(), x)
    close(cell.train()(x), layer.loop(cell, x, None, drops)[0], "output with dropout", 2e-6)
    assert len(as_on_a_gpu) == 1
    slow: list[int] = []
    loop = recurrent_steps.Stepping.loop
    monkeypatch.setattr(recurrent_steps.Stepping, "loop", lambda *a: (slow.append(1), loop(*a))[1])
    layer_of(spec, recurrent_dropout=0.5)[0].train()(x)
    assert (len(as_on_a_gpu), len(slow)) == (1, 1)


@pytest.mark.parametrize("use_bias", [True, False])
def test_weights_for_a_gpu_lie_one_after_the_other(use_bias: bool) -> None:
    """As cuDNN has them: both kernels, then both biases, in one tensor that holds nothing else."""
    kernel, own, *biases = (
        torch.from_numpy(normal(n, *shape)).requires_grad_()
        for n, shape in enumerate([(12, 3), (12, 4), *[(12,)] * 2 * use_bias])
    )
    x, first = torch.from_numpy(normal(5, 5, 6, 3)), torch.zeros(1, 5, 4)
    given = [kernel, own, *biases]
    pieces = in_one_piece(given)
    assert [tuple(p.shape) for p in pieces] == [(12, 3), (12, 4), (12,), (12,)]
    assert all(p.is_contiguous() for p in pieces)
    ends = [p.data_ptr() + p.numel() * p.element_size() for p in pieces]
    assert [p.data_ptr() for p in pieces[1:]] == ends[:-1]
    assert pieces[0].untyped_storage().nbytes() == 4 * (12 * 3 + 12 * 4 + 12 + 12)
    plain, piece = (
        torch.gru(x, first, weights, len(weights) > 2, 1, 0.0, True, False, True)[0] for weights in (given, pieces)
    )
    close(piece, plain, "output of the one piece")
    both = zip(torch.autograd.grad(piece.sum(), given), torch.autograd.grad(plain.sum(), given), strict=True)
    for ours, theirs in both:
        close(ours, theirs, "gradient through the one piece")
