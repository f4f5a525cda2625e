"""Every layer under every number type beside real Keras: outputs and gradients within the precision of the type."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np
import pytest
import torch
import yaml

from tests.parity.census import held
from tests.parity.double import equal_weights, variables
from tests.parity.harness import close
from tests.parity.test_double import CASES
from trainer.layers.base import DType, Layer
from trainer.layers.plan import Plan
from trainer.model.cell import Cell, Clock
from trainer.model.number_types import COMPUTE, KEPT

ROOM = {"mixed_float16": 4e-3, "mixed_bfloat16": 4e-2, "float32": 1e-5, "float16": 4e-3, "bfloat16": 4e-2}
"Of the scale of the values: some roundings of 2**-11 and 2**-8."


KERAS_CANT = {"STFTSpectrogram": ("bfloat16",), "AveragePooling3D": ("bfloat16", "float16")}
"Where torch has no kernel for Keras on a processor: held against Keras in float32."
KERAS_LEAVES = ("CategoryEncoding", "RandomCrop")
"Where Keras's output is float32 until the next layer casts it."


@pytest.fixture(autouse=True)
def no_orthogonal_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras makes first weights in the type of the weights, and torch has no QR in half precision on a processor."""
    start = keras.initializers.OrthogonalInitializer
    monkeypatch.setattr(start, "__call__", lambda self, shape, dtype=None: keras.ops.zeros(shape, dtype))


def cell_in(spec: Any, shape: tuple[int | None, ...], dtype: DType) -> Cell:
    """A built layer that computes in a number type."""
    layer, plan = Layer.parse(spec).typed(dtype), Plan()
    layer.build(plan, shape)
    return Cell(layer, plan, "layer", Clock(0))


def floats(made: Any) -> list[torch.Tensor]:
    """What was made, as a list of tensors of floating point."""
    return [t for t in (made if isinstance(made, (list, tuple)) else [made]) if t.is_floating_point()]


@pytest.mark.parametrize("dtype", ROOM)
@pytest.mark.parametrize(("shape", "text"), CASES)
def test_equals_keras(shape: tuple[Any, ...], text: str, dtype: DType) -> None:
    random = np.random.default_rng(3)
    ids = shape[-1] == "ids"
    x = (random.integers(0, 7, (6, *shape[:-1])) if ids else random.normal(0.3, 1, (6, *shape))).astype("float32")
    cell = cell_in(yaml.safe_load("{" + text + "}"), (None, *x.shape[1:]), dtype).eval()
    cant = any(name in text and dtype.removeprefix("mixed_") in types for name, types in KERAS_CANT.items())
    twin = keras.layers.deserialize(
        Layer.parse(yaml.safe_load("{" + text + "}")).typed("float32" if cant else dtype).to_keras()
    )
    assert twin.dtype_policy.name == "float32" if cant else dtype
    twin.build((None, *x.shape[1:]))
    held(cell.layer, shape, "typed")
    for (_, path, tensor, _), variable in zip(cell.rows(), variables(twin), strict=True):
        assert cant or str(tensor.dtype).removeprefix("torch.") == variable.dtype, path
    equal_weights(cell, twin)
    mine, other = (torch.from_numpy(x.copy()).requires_grad_(not ids) for _ in range(2))
    phase = {"training": False} if "training" in inspect.signature(twin.call).parameters else {}
    ours, theirs = floats(cell(mine)), floats(twin(other, **phase))
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == COMPUTE[dtype]
        assert cant or b.dtype == a.dtype or any(name in text for name in KERAS_LEAVES)
        close(a.float(), b.float(), f"{text}: output", ROOM[dtype])
    if not ours or not theirs[0].requires_grad:
        return
    pull = [torch.from_numpy(random.normal(size=tuple(t.shape)).astype("float32")) for t in ours]
    for made in (ours, theirs):
        torch.stack([(t.float() * p).sum() for t, p in zip(made, pull, strict=True)]).sum().backward()
    if not ids:
        close(mine.grad, other.grad, f"{text}: gradient of the input", 2 * ROOM[dtype])
    moving = [(path, t) for _, path, t, moves in cell.rows() if moves]
    for (path, tensor), variable in zip(moving, twin.trainable_weights, strict=True):
        assert tensor.dtype == KEPT.get(dtype, torch.float32)
        close(tensor.grad, variable.value.grad, f"{text}: gradient of {path}", 2 * ROOM[dtype])


@pytest.mark.usefixtures("keras_in_double")
@pytest.mark.parametrize(("shape", "text"), [case for case in CASES if "Spectrogram" not in str(case.id)])
def test_float64_equals_keras(shape: tuple[Any, ...], text: str) -> None:
    random = np.random.default_rng(5)
    ids = shape[-1] == "ids"
    x = random.integers(0, 7, (6, *shape[:-1])).astype("float64") if ids else random.normal(0.3, 1, (6, *shape))
    cell = cell_in(yaml.safe_load("{" + text + "}"), (None, *x.shape[1:]), "float64").eval()
    assert {t.dtype for _, _, t, _ in cell.rows() if t.is_floating_point()} <= {torch.float64}
    twin = keras.layers.deserialize(cell.layer.to_keras())
    twin.build((None, *x.shape[1:]))
    held(cell.layer, shape, "typed")
    equal_weights(cell, twin)
    phase = {"training": False} if "training" in inspect.signature(twin.call).parameters else {}
    # What comes in float32 is cast at the border, as in a model.
    ours, theirs = floats(cell(torch.from_numpy(x))), floats(twin(torch.from_numpy(x), **phase))
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == torch.float64
        close(a, b, f"{text}: output", 1e-10 if b.dtype == torch.float64 else 1e-6)


@pytest.mark.parametrize("dtype", ROOM)
def test_ids_that_come_as_floats_are_told_apart(dtype: DType) -> None:
    """In bfloat16 257 is no number of its own; the vectors are those of the table, rounded."""
    cell = cell_in({"Embedding": {"input_dim": 1000, "output_dim": 4}}, (None, 1000), dtype)
    made = cell(torch.arange(1000, dtype=torch.float32).unsqueeze(0))
    assert made.dtype == COMPUTE[dtype]
    assert torch.equal(made[0], cell.embeddings.to(made.dtype))
    made.sum().backward()
    assert torch.equal(cell.embeddings.grad, torch.ones_like(cell.embeddings))


@pytest.mark.parametrize("reverse_dtype", [None, "float32"])
def test_vectors_that_are_turned_into_scores_are_not_rounded(reverse_dtype: str | None) -> None:
    """As in Keras, where the table is."""
    options = {"input_dim": 20, "output_dim": 8, "reverse_dtype": reverse_dtype}
    cell = cell_in({"ReversibleEmbedding": options}, (None, 5), "mixed_bfloat16")
    twin: Any = keras.layers.ReversibleEmbedding(**options, dtype="mixed_bfloat16")
    twin.build((None, 5))
    twin.set_weights([t.detach().numpy() for t in (cell.embeddings, cell.reverse_embeddings) if t is not None])
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    theirs = twin(x, reverse=True).detach().float().numpy()
    np.testing.assert_allclose(cell(x, reverse=True).detach().float().numpy(), theirs, rtol=1e-6, atol=1e-7)
