"""LSTM and GRU as compiled code: the outputs and gradients of autograd, at any size, and when they are chosen."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.recipes import loaded
from tests.train.test_direct import hold_alike, record, weights
from trainer.cli.using import measure
from trainer.errors import DataError
from trainer.layers import recurrent_gru_kernels, recurrent_kernels, recurrent_native
from trainer.layers.base import Layer, Words
from trainer.layers.plan import Plan
from trainer.layers.recurrent import Recurrent
from trainer.layers.recurrent_kernels import Recurrence, whole_sequence
from trainer.layers.recurrent_native import native_by_hand
from trainer.model.cell import Cell, Clock
from trainer.native import calls, compiler
from trainer.program import Program
from trainer.runs.directory import RunDirectory
from trainer.switches import VARIABLE
from trainer.train.devices import settings_kept
from trainer.train.feed import Batch
from trainer.train.job import Options, Outcome, fit, resume
from trainer.train.loop import Training
from trainer.train.progress import Stopped
from trainer.train.use import OpenRun

pytestmark = pytest.mark.skipif(compiler.compiler() is None, reason="there is no C compiler")

KINDS = {
    "lstm": (recurrent_kernels.LSTM, (4,), 4),
    "gru": (recurrent_gru_kernels.GRU_AFTER, (2, 3), 3),
    "tanh": (recurrent_kernels.SIMPLE_TANH, (1,), 1),
    "relu": (recurrent_kernels.SIMPLE_RELU, (1,), 1),
}
SIZES = [
    *[(128, 9, 32, 32), (5, 3, 7, 9), (1, 1, 1, 1), (131, 4, 16, 64), (50, 4, 3, 20), (2, 30, 40, 17)],
    *[(66, 2, 1000, 24), (70, 2, 5, 160)],
]
"(batch, time, features, units)"


def drawing(features: int, units: int, gates: int) -> tuple[torch.Generator, Callable[..., torch.Tensor]]:
    """A generator, and what draws tensors of a shape from it: leaves that have a gradient."""
    random = torch.Generator().manual_seed(units)
    # Sums stay where a sigmoid has a slope, and what has no gates does not let roundings grow.
    scale = min(0.5, 8 / features, 1.0 if gates > 1 else units**-0.5)
    return random, lambda *shape: torch.randn(*shape, generator=random).mul_(scale).requires_grad_()


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_outputs_and_gradients_are_those_of_autograd(name: str, size: tuple[int, ...], threads: int) -> None:
    kind, bias_shape, gates = KINDS[name]
    batch, time, features, units = size
    biases = (*bias_shape[:-1], bias_shape[-1] * units)
    random, draw = drawing(features, units, gates)
    kernel, recurrent, bias = draw(features, gates * units), draw(units, gates * units), draw(*biases)
    with settings_kept():
        torch.set_num_threads(threads)
        for every, backwards, biased in itertools.product((False, True), repeat=3):
            x, held = draw(batch, time, features), (kernel, recurrent, bias if biased else None)
            expected = whole_sequence(kind, x.flip(1) if backwards else x, None, every, *held)
            arriving = torch.randn(expected.shape, generator=random)
            wanted = [t for t in (x, *held) if t is not None]
            slopes = torch.autograd.grad(expected, wanted, arriving)
            found = run_twice(kind, x.detach(), every, backwards, held, arriving)
            for ours, theirs in zip(found, (expected.detach(), *slopes), strict=True):
                scale = float(theirs.abs().max()) + 1e-6
                np.testing.assert_allclose(ours.numpy() / scale, theirs.numpy() / scale, atol=3e-6, rtol=0)


def run_twice(
    kind: Recurrence, x: torch.Tensor, every: bool, backwards: bool, held: tuple[Any, ...], arriving: torch.Tensor
) -> list[torch.Tensor]:
    """Outputs and slopes of the second run of a program: nothing of the first one is left over."""
    views = {id(t): torch.full_like(t, 7, requires_grad=False) for t in held if t is not None}
    with torch.no_grad():
        program = Program(views, compiles=True)
        assert kind.native is not None
        outputs, pull = native_by_hand(program, kind.native, x, None, every, backwards, held)
        of_x = pull(arriving.clone(), True)
        program.run()
        assert program.complete()
    return [outputs, of_x, *views.values()]


WORDS = [(128, 9, 32, 32, 50), (5, 3, 7, 9, 300), (1, 1, 1, 1, 1), (131, 20, 16, 20, 400), (2, 30, 40, 17, 7)]
"(batch, time, features, units, words)"
ENDS = [(1, ""), (2, ""), (3, ""), (1, "before"), (2, "before"), (2, "behind"), (3, "before and behind")]
"(threads, where rows are filled up with id 0)"


def ends(batch: int, time: int, where: str, random: torch.Generator) -> torch.Tensor:
    """Where rows are filled up: at random many steps of (batch, time), in a few rows at all of them."""
    found, steps = torch.zeros(batch, time, dtype=torch.bool), torch.arange(time)
    for name in where.split(" and ") if where else ():
        lengths = torch.randint(-time // 2, time + 2, (batch, 1), generator=random)
        found |= (steps if name == "before" else time - 1 - steps) < lengths
    return found


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("threads", "where"), ENDS)
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("size", WORDS)
def test_vectors_that_are_looked_up(name: str, size: tuple[int, ...], threads: int, where: str, masked: bool) -> None:
    """Outputs and gradients, that of the table too, of vectors looked up first; in a second run, of other words, of
    which some are masked."""
    kind, bias_shape, gates = KINDS[name]
    batch, time, features, units, count = size
    native = kind.native
    assert native is not None
    random, draw = drawing(features, units, gates)
    table, kernel, recurrent = draw(count, features), draw(features, gates * units), draw(units, gates * units)
    bias = draw(*(*bias_shape[:-1], bias_shape[-1] * units))
    # Some words often, some never, and for some threads only.
    ids = (torch.rand(batch, time, generator=random) ** 3 * count).long()
    ids[ends(batch, time, where, random)] = 0
    with settings_kept():
        torch.set_num_threads(threads)
        for every, backwards, biased in itertools.product((False, True), repeat=3):
            held = (kernel, recurrent, bias if biased else None)
            wanted = [t for t in (table, *held) if t is not None]
            views = {id(t): torch.full_like(t, 7, requires_grad=False) for t in wanted}
            given, seen = torch.zeros_like(ids), torch.ones_like(ids, dtype=torch.bool)
            program, rounded = Program(views, compiles=True), every and biased
            words = Words(table, given, seen if masked else None, rounded=rounded)
            arriving = torch.randn((batch, time, units) if every else (batch, units), generator=random)
            with torch.no_grad():
                outputs, pull = recurrent_native.native_of_words(program, native, words, every, backwards, held)
                assert pull(arriving.clone(), False) is None
                given.copy_(ids)
                seen.copy_(ids > count // 8)
                program.run()
                assert program.complete()
                alone = recurrent_native.native_sequence_of_words(native, words, every, backwards, held)
            assert torch.equal(alone, outputs)
            exact = [t.detach().double().requires_grad_() for t in wanted]
            vectors = exact[0] + (table.detach().bfloat16().double() - exact[0]).detach() if rounded else exact[0]
            x = vectors[ids.flip(1) if backwards else ids]
            mask = (seen.flip(1) if backwards else seen) if masked else None
            expected = whole_sequence(kind, x, mask, every, *exact[1:], *([] if biased else [None]))
            slopes = torch.autograd.grad(expected, exact, arriving.double())
            for ours, theirs in zip([outputs, *views.values()], (expected.detach(), *slopes), strict=True):
                scale = float(theirs.abs().max()) + 1e-6
                # Id 0 has most of the batch's slopes then, and their sum its roundings.
                atol = 1e-5 if where else 3e-6
                np.testing.assert_allclose(ours.numpy() / scale, theirs.numpy() / scale, atol=atol, rtol=0)


@pytest.mark.parametrize("spared", [True, False])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", KINDS)
def test_steps_that_rows_are_filled_up_with_are_computed_once_or_not_at_all(
    name: str, threads: int, masked: bool, backwards: bool, spared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first word all rows of a block have the states of one of them; masked, states that stay."""
    kind, bias_shape, gates = KINDS[name]
    native, batch, time = kind.native, 150, 11
    monkeypatch.setenv(VARIABLE, "" if spared else "padding")
    assert native is not None
    random, draw = drawing(6, 20, gates)
    lengths = torch.randint(0, time, (batch,), generator=random)
    ids = torch.randint(1, 9, (batch, time), generator=random)
    ids[torch.arange(time) < lengths[:, None]] = 0
    held = draw(6, gates * 20), draw(20, gates * 20), draw(*(*bias_shape[:-1], bias_shape[-1] * 20))
    # Masked and read backwards, what rows are filled up with comes last; otherwise first.
    read = ids if masked or not backwards else ids.flip(1)
    words = Words(draw(9, 6), read, ids != 0 if masked else None)
    with settings_kept(), torch.no_grad():
        torch.set_num_threads(threads)
        layer = recurrent_native._OfWords(native, words, False, backwards, *held)
        layer._room["states"].fill_(math.nan)
        layer._room["gates"].fill_(math.nan)
        layer.there()
    gated, full = name in ("lstm", "gru"), int((ids != 0).sum())
    # SimpleRNN keeps nothing but states, those too that stay or that a row joins with.
    room = layer._room["gates"] if gated else layer._room["states"][1:]
    computed = int((~room.isnan()).all(2).sum())
    if masked:
        assert computed == (full if gated else batch * time)
        return
    if not spared:
        assert computed == batch * time
        return
    # The longest lead of each block is that of the row that stands for the others.
    dealt = [lengths.sort().values[share::threads] for share in range(threads)]
    leaders = [int(block[-1]) for share in dealt for block in share.split(64)]
    joined = 0 if gated else int((lengths > 0).sum()) - len(leaders)
    assert computed == full + sum(leaders) + joined < batch * time


@pytest.mark.parametrize("where", ["before", "behind"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_outputs_are_the_same_to_the_bit_whether_filling_is_spared_or_not(
    name: str, masked: bool, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, bias_shape, gates = KINDS[name]
    random, draw = drawing(6, 20, gates)
    held = draw(6, gates * 20), draw(20, gates * 20), draw(*(*bias_shape[:-1], bias_shape[-1] * 20))
    ids = torch.randint(1, 9, (150, 11), generator=random)
    ids[ends(150, 11, where, random)] = 0
    words = Words(draw(9, 6), ids, ids != 0 if masked else None)
    assert kind.native is not None
    made = []
    for switch in ("", "padding"):
        monkeypatch.setenv(VARIABLE, switch)
        with torch.no_grad():
            made.append(
                [
                    recurrent_native.native_sequence_of_words(kind.native, words, every, backwards, held)
                    for every in (False, True)
                    for backwards in (False, True)
                ]
            )
    assert all(torch.equal(*both) for both in zip(*made, strict=True))


def test_a_mask_of_any_layout_is_read_anew_by_every_run() -> None:
    random, draw = drawing(3, 5, 4)
    held, x = (draw(3, 20), draw(5, 20), draw(20)), torch.randn(4, 6, 3, generator=random)
    kind, seen = KINDS["lstm"][0].native, torch.ones(6, 4)
    assert kind is not None
    with torch.no_grad():
        program = Program({}, compiles=True)
        outputs, _ = native_by_hand(program, kind, x, seen.t(), True, False, held)
        seen[3:, 1:] = 0
        program.run()
        expected, _ = recurrent_native.native_sequence(kind, x, seen.t() != 0, (), True, held)
    assert torch.equal(outputs, expected)


def test_a_table_that_is_frozen_and_one_that_others_read_too() -> None:
    random = torch.Generator().manual_seed(0)
    ids, table = torch.tensor([[1, 2, 1], [0, 2, 2]]), torch.randn(4, 3, generator=random).requires_grad_()
    held = (torch.randn(3, 8, generator=random).requires_grad_(), torch.randn(2, 8, generator=random), None)
    kind = recurrent_kernels.LSTM
    expected = whole_sequence(kind, table[ids], None, False, *held)
    slopes = dict(zip("tk", torch.autograd.grad(expected.sum(), (table, held[0])), strict=True))
    assert kind.native is not None
    for known in ("k", "tk"):
        views = {
            id(t): torch.full_like(t, 7, requires_grad=False) for n, t in (("t", table), ("k", held[0])) if n in known
        }
        with torch.no_grad():
            program, words = Program(views, compiles=True), Words(table, ids, None)
            if "t" in known:
                program.gradient(table, torch.ones, 4, 3)
            outputs, pull = recurrent_native.native_of_words(program, kind.native, words, False, False, held)
            pull(torch.ones_like(outputs), False)
            program.run()
        found = dict(zip(reversed(known), reversed(views.values()), strict=True))
        np.testing.assert_allclose(found["k"].numpy(), slopes["k"].numpy(), atol=1e-6)
        if "t" in known:
            np.testing.assert_allclose(found["t"].numpy(), slopes["t"].numpy() + 1, atol=1e-6)


MORE = {
    "mask": {"mask": True},
    "filled up before": {"mask": True, "where": "before"},
    "filled up behind": {"mask": True, "where": "behind", "start": True, "recurrent_dropout": 0.4},
    "filled up before, and first states": {"mask": True, "where": "before", "start": True, "dropout": 0.3},
    "first states": {"start": True},
    "dropout": {"dropout": 0.3},
    "all": {"mask": True, "start": True, "dropout": 0.3, "recurrent_dropout": 0.4},
}


@pytest.mark.parametrize("name", ["LSTM", "GRU", "SimpleRNN"])
@pytest.mark.parametrize("case", MORE)
@pytest.mark.parametrize("every", [False, True])
def test_masks_first_states_and_dropout_are_those_of_the_plain_loop(name: str, case: str, every: bool) -> None:
    """Outputs, last states and all gradients, of more rows than a thread takes at a time."""
    options = {n: rate for n, rate in MORE[case].items() if "dropout" in n}
    layer, plan = Layer.parse({name: {"units": 20, "return_sequences": every, **options}}), Plan()
    assert isinstance(layer, Recurrent)
    layer.build(plan, (None, 7, 24))
    cell = Cell(layer, plan, "layer", Clock(0)).train()
    random = torch.Generator().manual_seed(5)
    x = torch.randn(150, 7, 24, generator=random).requires_grad_()
    mask = torch.rand(150, 7, generator=random) < 0.6 if "mask" in MORE[case] else None
    if mask is not None and "where" in MORE[case]:
        mask = ~ends(150, 7, MORE[case]["where"], random)
    states = [torch.randn(150, 20, generator=random).requires_grad_() for _ in range(layer.carried)]
    start = tuple(states) if "start" in MORE[case] else None
    drops = layer.drops(cell, x)
    cell.forget_draws()
    loop = layer.loop(cell, x, mask, drops, start, every)
    with settings_kept():
        torch.set_num_threads(2)
        cell.clock.compiles = True
        made = layer.through(cell, x, mask, start, every, True)
        wanted = [x, *cell.parameters(), *(start or ())]
        totals = [weighed(out, *last) for out, last in (made, loop)]
        found = [
            (out, *last, *torch.autograd.grad(t, wanted)) for t, (out, last) in zip(totals, (made, loop), strict=True)
        ]
    for ours, theirs in zip(*found, strict=True):
        scale = float(theirs.detach().abs().max())
        np.testing.assert_allclose(ours.detach() / scale, theirs.detach() / scale, atol=3e-6, rtol=0)
    if mask is not None and not every and start is None:
        assert torch.equal(made[0][~mask.any(1)], torch.zeros_like(made[0][~mask.any(1)]))


def weighed(*made: torch.Tensor) -> torch.Tensor:
    """A sum in which each number has a weight of its own."""
    random = torch.Generator().manual_seed(9)
    return torch.stack([(t * torch.randn(t.shape, generator=random)).sum() for t in made]).sum()


def test_what_is_kept_goes_with_the_graph() -> None:
    """Nothing that autograd keeps holds what came of it: such a ring would never be freed."""
    layer, plan = Layer.parse({"LSTM": {"units": 4}}), Plan()
    layer.build(plan, (None, 3, 2))
    cell = Cell(layer, plan, "layer", Clock(0)).train()
    cell.clock.compiles = True
    made = cell(torch.randn(2, 3, 2))
    kept = weakref.ref(made.grad_fn.layer)
    del made
    assert kept() is None


def test_a_later_layer_of_the_same_shape_works_in_the_same_room() -> None:
    layer, plan = Layer.parse({"GRU": {"units": 5}}), Plan()
    layer.build(plan, (None, 3, 2))
    cell = Cell(layer, plan, "layer", Clock(0)).train()
    cell.clock.compiles = True
    xs = [torch.randn(4, 3, 2) for _ in range(3)]
    places, made = [], []
    for x in xs:
        out = cell(x)
        places.append(out.grad_fn.layer._room["gates"].data_ptr())
        made.append(out.detach())
        del out
    assert len(set(places)) == 1
    # Two at a time have a room each, and outputs are nobody's room.
    both = [cell(x) for x in xs[:2]]
    assert len({out.grad_fn.layer._room["gates"].data_ptr() for out in both}) == 2
    for now, then in zip(both, made, strict=False):
        assert torch.equal(now, then)


def test_rooms_of_many_lengths_do_not_pile_up() -> None:
    layer, plan = Layer.parse({"GRU": {"units": 5}}), Plan()
    layer.build(plan, (None, None, 2))
    cell = Cell(layer, plan, "layer", Clock(0)).train()
    cell.clock.compiles = True
    for time in range(1, 3 * recurrent_native.MOST_SPARE):
        cell(torch.randn(4, time, 2)).sum().backward()
    assert len(recurrent_native._spare) <= recurrent_native.MOST_SPARE


@pytest.mark.parametrize("name", ["LSTM", "GRU", "SimpleRNN"])
def test_first_states_of_another_number_type_are_refused_as_without_a_compiler(name: str) -> None:
    layer, plan = Layer.parse({name: {"units": 5}}), Plan()
    assert isinstance(layer, Recurrent)
    layer.build(plan, (None, 3, 2))
    cell = Cell(layer, plan, "layer", Clock(0)).train()
    cell.clock.compiles = True
    start = [torch.ones(4, 5, dtype=torch.float64)] * layer.carried
    with pytest.raises(RuntimeError):
        cell([torch.randn(4, 3, 2), *start])


def test_what_was_overwritten_before_the_way_back_is_noticed() -> None:
    layer, plan = Layer.parse({"LSTM": {"units": 5}}), Plan()
    layer.build(plan, (None, 3, 2))
    cell = Cell(layer, plan, "layer", Clock(0)).train()
    cell.clock.compiles = True
    x = torch.randn(4, 3, 2, requires_grad=True) * 1
    made = cell(x)
    with torch.no_grad():
        x.mul_(0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        made.sum().backward()


def test_large_scores_squash_to_the_ends() -> None:
    size, kind = 16, recurrent_kernels.LSTM
    x = torch.tensor([[[-200.0]], [[0.0]], [[200.0]]])
    held = (torch.ones(1, 4 * size), torch.zeros(size, 4 * size), None)
    with torch.no_grad():
        assert kind.native is not None
        outputs, _ = native_by_hand(Program({}, compiles=True), kind.native, x, None, False, False, held)
        expected = whole_sequence(kind, x, None, False, *held)
    assert torch.isfinite(outputs).all()
    np.testing.assert_allclose(outputs.numpy(), expected.numpy(), atol=1e-7)


def test_slopes_past_gates_that_are_shut() -> None:
    """A gate that is as good as zero is divided by on the way back."""
    units, kind = 3, recurrent_kernels.LSTM
    x = torch.tensor([[[scores], [0.5]] for scores in (-200.0, -75.0, -60.0, 0.0, 60.0)], requires_grad=True)
    kernel = torch.tensor([0.3, 0.1, 0.2, 1.0]).repeat_interleave(units).unsqueeze(0).requires_grad_()
    recurrent = torch.full((units, 4 * units), 0.1, requires_grad=True)
    expected = whole_sequence(kind, x, None, True, kernel, recurrent, None)
    slopes = torch.autograd.grad(expected, (x, kernel, recurrent), torch.ones_like(expected))
    found = run_twice(kind, x.detach(), True, False, (kernel, recurrent, None), torch.ones_like(expected))
    for ours, theirs in zip(found, (expected.detach(), *slopes), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-6, rtol=1e-5)


RECIPE = """
name: rows
seed: 3
dataset: {{source: digits, inputs: {{image: {{preprocess: [{{Rescaling: {{scale: 1/16}}}}]}}}}, limit: 300}}
model:
  layers: [{layers}, {{Dense: {{units: 10, activation: softmax}}}}]
compile: {{optimizer: adam, loss: sparse_categorical_crossentropy, metrics: [accuracy], jit_compile: {jit}}}
fit: {{epochs: 2, batch_size: 16, validation_split: 0.2}}
"""
WORD = "{Rescaling: {scale: 16}}, {Flatten: {}}, {Embedding: {input_dim: 17, output_dim: 16}}"
LAYERS = {
    "lstm": "{LSTM: {units: 12}}",
    "gru": "{GRU: {units: 12}}",
    "several": "{LSTM: {units: 8, return_sequences: true}}, {GRU: {units: 8, go_backwards: true}}",
    "dropout": "{LSTM: {units: 8, dropout: 0.2}}",
    "its states": "{GRU: {units: 8, dropout: 0.1, recurrent_dropout: 0.2}}",
    "both directions": "{Bidirectional: {layer: {LSTM: {units: 8, return_sequences: true}}}}, "
    "{Bidirectional: {layer: {GRU: {units: 8}}, merge_mode: sum}}",
    "merged by product": "{Bidirectional: {layer: {LSTM: {units: 8, dropout: 0.1}}, merge_mode: mul}}",
    "words": f"{WORD}, {{LSTM: {{units: 12, return_sequences: true}}}}, {{GRU: {{units: 8}}}}",
    "words backwards": f"{WORD}, {{GRU: {{units: 12, go_backwards: true, use_bias: false}}}}",
    "words to a plain one": f"{WORD}, {{SimpleRNN: {{units: 12, activation: relu}}}}",
    "words that dropout hides": f"{WORD}, {{LSTM: {{units: 8, dropout: 0.2}}}}",
    "beside others": "{SimpleRNN: {units: 8, return_sequences: true}}, {GRU: {units: 8, use_bias: false}}",
}
WHOLE = ("lstm", "gru", "several", "both directions", "beside others")
"Those whose steps are compiled as a whole."
SOME = "operations in a row, some layers compiled"
ALL = "compiled code"


def run(folder: Path, layers: str, jit: str = "true", sets: tuple[str, ...] = (), **more: Any) -> Outcome:
    made = RECIPE.format(layers=layers, jit=jit)
    return fit(loaded(made, *sets), Options(runs=folder, device="cpu", **more), made.encode(), None)


@pytest.mark.parametrize("case", LAYERS)
def test_training_is_that_of_autograd(tmp_path: Path, case: str) -> None:
    plain, ours = (run(tmp_path, LAYERS[case], engine=engine) for engine in ("plain", "auto"))
    assert record(ours)["steps_by"] == (ALL if case in WHOLE else SOME)
    assert record(plain)["steps_by"].startswith("autograd")
    hold_alike(plain, ours)


def test_layers_are_compiled_for_autograd(tmp_path: Path) -> None:
    """Where most layers leave their gradient to it."""
    others = "{SpectralNormalization: {layer: {Dense: {units: 8}}}}, " * 5
    layers = f"Masking, {others} {{LSTM: {{units: 8, return_sequences: true}}}}, {{GRU: {{units: 8}}}}"
    plain, ours = (run(tmp_path, layers, engine=engine) for engine in ("plain", "auto"))
    because = "since most layers leave their gradient to autograd"
    assert record(ours)["steps_by"] == f"autograd, {because}, some layers compiled"
    assert record(ours)["jit_compile"] == {"0": "layers"}
    assert "compiled" not in record(plain)["steps_by"]
    hold_alike(plain, ours)


@pytest.mark.parametrize(
    "layers",
    [
        "{Masking: {mask_value: 0}}, {LSTM: {units: 8}}",
        LAYERS["both directions"],
        LAYERS["words"],
        f"{WORD.replace('dim: 16', 'dim: 16, mask_zero: true')}, {{Bidirectional: {{layer: {{GRU: {{units: 8}}}}}}}}",
    ],
)
def test_a_run_is_judged_later_as_it_was_at_its_end(
    tmp_path: Path, layers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit: the same code goes through the rows, and goes through all of them."""
    plain, ours = (run(tmp_path, layers, engine=engine) for engine in ("plain", "auto"))
    calls_of: list[str] = []
    before = calls.Call.run
    monkeypatch.setattr(calls.Call, "run", lambda call, name: (calls_of.append(name), before(call, name))[1])
    for outcome in (plain, ours):
        opened = OpenRun(RunDirectory(outcome.directory), Options(runs=tmp_path, device="cpu"))
        found, _, _ = measure(opened, opened.rows("validation"))
        last = outcome.history
        assert [found["loss"], found["accuracy"]] == [last["val_loss"][-1], last["val_accuracy"][-1]]
        assert bool(calls_of) == (outcome is ours)


LEFT = {
    "another activation": "{LSTM: {units: 8, activation: relu}}",
    "before the product": "{GRU: {units: 8, reset_after: false}}",
    "a type of its own": "{LSTM: {units: 8, dtype: float64}}",
}


@pytest.mark.parametrize("case", LEFT)
def test_what_has_no_compiled_form_is_trained_without(tmp_path: Path, case: str) -> None:
    assert "compiled" not in record(run(tmp_path, LEFT[case], "auto"))["steps_by"]


def test_large_kernels_are_left_to_the_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrent_native, "MOST_WEIGHTS", 12 * 48 + 8 * 48 - 1)
    assert "compiled" not in record(run(tmp_path, LAYERS["lstm"], "auto"))["steps_by"]
    monkeypatch.setattr(recurrent_native, "MOST_WEIGHTS", 12 * 48 + 8 * 48)
    assert record(run(tmp_path, LAYERS["lstm"], "auto"))["steps_by"] == SOME


def test_many_features_are_left_to_the_libraries() -> None:
    few, many = ((torch.zeros(n, 8), torch.zeros(2, 8), None) for n in (1022, 1023))
    assert recurrent_native.can_be_native(recurrent_native.LSTM, few, alone=False)
    assert not recurrent_native.can_be_native(recurrent_native.LSTM, many, alone=False)


@pytest.mark.parametrize("alone", [False, True])
def test_a_large_lstm_is_left_to_the_kernel_of_torch_unless_that_has_no_way(alone: bool) -> None:
    for units, fits in ((361, True), (362, alone)):
        held = (torch.empty(1, 4 * units), torch.empty(units, 4 * units), None)
        assert recurrent_native.can_be_native(recurrent_native.LSTM, held, alone=alone) == fits


def test_it_is_left_out_when_asked_or_in_short_runs(tmp_path: Path) -> None:
    assert "compiled" not in record(run(tmp_path, LAYERS["gru"], "false"))["steps_by"]
    assert record(run(tmp_path, LAYERS["gru"], "auto"))["steps_by"] == SOME
    short = RECIPE.format(layers=LAYERS["gru"], jit="auto").replace("batch_size: 16", "batch_size: 64")
    outcome = fit(loaded(short), Options(runs=tmp_path, device="cpu"), short.encode(), None)
    assert "compiled" not in record(outcome)["steps_by"]


def test_a_stopped_run_goes_on_to_the_bit(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", LAYERS["both directions"], "auto")
    made, step = RECIPE.format(layers=LAYERS["both directions"], jit="auto"), Training.step

    def interrupted(self: Training, batch: Batch) -> None:
        step(self, batch)
        if (self.epoch, self.batch) == (1, 7):
            self.signalled.got = 2  # pyright: ignore[reportFunctionMemberAccess]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Training, "step", interrupted)
        with pytest.raises(Stopped):
            fit(loaded(made), Options(runs=tmp_path / "cut", device="cpu"), made.encode(), None)
    directory = RunDirectory.find(tmp_path / "cut", "last")
    assert json.loads((directory.path / "run.json").read_text())["jit_compile"] == {"0": "layers"}
    outcome = resume(directory, Options(runs=tmp_path / "cut", device="cpu"))
    assert record(outcome)["steps_by"] == SOME
    assert outcome.history == whole.history
    for mine, theirs in zip(weights(outcome), weights(whole), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_run_goes_on_without_a_compiler_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = run(tmp_path, LAYERS["lstm"], "auto")
    monkeypatch.setattr(compiler, "compiler", lambda: None)
    calls._library.cache_clear()
    directory = RunDirectory.find(tmp_path, "last")
    outcome = resume(directory, Options(runs=tmp_path, device="cpu", epochs=3))
    calls._library.cache_clear()
    assert "no longer are, since there is no C compiler" in (outcome.directory / "log.txt").read_text()
    assert len(outcome.history["loss"]) == len(began.history["loss"]) + 1


BETWEEN_CASTS = {
    "by hand": "{LSTM: {units: 8, return_sequences: true}}, {GRU: {units: 8}}",
    "by autograd": "{Bidirectional: {layer: {LSTM: {units: 8}}}}, {Reshape: {target_shape: [2, 8]}}, "
    "{SimpleRNN: {units: 8, dropout: 0.2}}",
    "behind a mask": "{Masking: {mask_value: 0}}, {LSTM: {units: 8}}",
}


ROUNDED = {"float32": 1e-6, "mixed_bfloat16": 1e-3, "mixed_float16": 1e-4}
"What it makes of the loss that steps are not rounded one by one."


@pytest.mark.parametrize("case", BETWEEN_CASTS)
@pytest.mark.parametrize("dtype", ROUNDED)
def test_layers_between_casts_compute_in_float32(
    case: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a run is judged later as it was at its end: by the same code."""
    called: list[str] = []
    before = calls.Call.run
    monkeypatch.setattr(calls.Call, "run", lambda call, name: (called.append(name), before(call, name))[1])
    layers, typed = BETWEEN_CASTS[case], (f"model.dtype={dtype}", "compile.optimizer={SGD: {learning_rate: 0.05}}")
    plain, ours = (run(tmp_path, layers, sets=typed, engine=engine) for engine in ("plain", "auto"))
    assert "lstm_backward" in called
    for key in ("loss", "val_loss"):
        np.testing.assert_allclose(ours.history[key], plain.history[key], rtol=ROUNDED[dtype])
    called.clear()
    opened = OpenRun(RunDirectory(ours.directory), Options(runs=tmp_path, device="cpu"))
    found, _, _ = measure(opened, opened.rows("validation"))
    assert found["loss"] == ours.history["val_loss"][-1]
    assert called


BESIDE = "{Conv1D: {filters: 16, kernel_size: 2, padding: same}}, {BatchNormalization: {}}"
"What training alone has compiled, so that whoever is judged later has nothing to be compiled for."
JUDGED = {
    "too large for compiled code": f"{BESIDE}, {{LSTM: {{units: 480}}}}",
    "a cell": f"{BESIDE}, {{RNN: {{cell: {{GRUCell: {{units: 8}}}}}}}}",
    "a cell behind a mask": f"{{Masking: {{mask_value: 0}}}}, {BESIDE}, {{RNN: {{cell: {{LSTMCell: {{units: 8}}}}}}}}",
    "a small one beside a large one": "{LSTM: {units: 480, return_sequences: true}}, {GRU: {units: 8}}",
}


@pytest.mark.parametrize("case", JUDGED)
@pytest.mark.parametrize("dtype", [None, "float32", "mixed_bfloat16"])
def test_a_run_is_judged_later_in_what_it_was_trained_in(case: str, dtype: str | None, tmp_path: Path) -> None:
    outcome = run(tmp_path, JUDGED[case], "auto", sets=(f"model.dtype={dtype}",) if dtype else ())
    opened = OpenRun(RunDirectory(outcome.directory), Options(runs=tmp_path, device="cpu"))
    found, _, _ = measure(opened, opened.rows("validation"))
    assert found["loss"] == outcome.history["val_loss"][-1]


def two(*made: dict[str, Any]) -> tuple[list[Layer], list[Cell]]:
    """Layers one behind the other, for rows of six ids, and their weights."""
    layers, cells, shape = [Layer.parse(m) for m in made], [], (None, 6)
    for number, layer in enumerate(layers):
        plan = Plan()
        shape = layer.build(plan, shape)
        cells.append(Cell(layer, plan, str(number), Clock(0)))
    return layers, cells


@pytest.mark.parametrize("bad", [-1, 17])
@pytest.mark.parametrize("when", ["trained", "judged"])
def test_ids_that_the_table_lacks(tmp_path: Path, bad: int, when: str) -> None:
    """With the message of an embedding that is looked up by itself, and before anything is read out of the table."""
    layers, cells = two({"Embedding": {"input_dim": 17, "output_dim": 16}}, {"LSTM": {"units": 4}})
    ids = torch.zeros(3, 6, dtype=torch.int32)
    with torch.no_grad():
        if when == "trained":
            program = Program({id(t): torch.empty_like(t) for c in cells for t in c.parameters()}, compiles=True)
            found = layers[0].by_hand_with(program, cells[0], ids, layers[1], cells[1], None)
        else:
            found = layers[0].forward_with(cells[0], ids, layers[1], cells[1], None)
        assert found is not None
        ids[1, 2] = bad
        with pytest.raises(DataError, match=rf"found {bad} in row 1 of the batch, position 2"):
            program.run() if when == "trained" else layers[0].forward_with(cells[0], ids, layers[1], cells[1], None)


def test_an_embedding_hands_ids_on_only_where_that_is_the_same() -> None:
    def found(embedding: dict[str, Any], after: dict[str, Any]) -> bool:
        layers, cells = two({"Embedding": {"input_dim": 5, "output_dim": 3, **embedding}}, after)
        with torch.no_grad():
            ids = torch.ones(2, 6, dtype=torch.int64)
            program = Program({}, compiles=True)
            made = layers[0].by_hand_with(program, cells[0], ids, layers[1], cells[1], None) is not None
            assert made == (layers[0].forward_with(cells[0], ids, layers[1], cells[1], None) is not None)
        return made

    assert found({}, {"LSTM": {"units": 2}})
    assert found({"mask_zero": True}, {"LSTM": {"units": 2}})
    assert found({"dtype": "mixed_bfloat16"}, {"LSTM": {"units": 2, "dtype": "mixed_bfloat16"}})
    assert not found({"dtype": "mixed_bfloat16"}, {"LSTM": {"units": 2}})
    assert not found({"dtype": "mixed_float16"}, {"LSTM": {"units": 2, "dtype": "mixed_float16"}})
    assert not found({}, {"LSTM": {"units": 2, "dropout": 0.1}})
    assert not found({}, {"GRU": {"units": 2, "reset_after": False}})
    assert not found({}, {"Flatten": {}})


SMALLER_TEAM = """
import torch
from trainer.layers import recurrent_native
from trainer.layers.base import Words
from trainer.layers.recurrent_kernels import LSTM, whole_sequence
from trainer.program import Program

torch.set_num_threads(4)
random = torch.Generator().manual_seed(0)
ids = torch.randperm(1200, generator=random).view(40, 30)
# Some are filled up, and those that fewer threads take together still have one for each share that stands for them.
ids[torch.arange(30) < torch.randint(-20, 30, (40, 1), generator=random)] = 0
shapes = (1200, 8), (8, 64), (16, 64), (64,)
table, *held = [torch.randn(*s, generator=random).mul_(0.3).requires_grad_() for s in shapes]
views = {id(t): torch.full_like(t, 7, requires_grad=False) for t in (table, *held)}
program, words = Program(views, compiles=True), Words(table, ids, None)
with torch.no_grad():
    outputs, pull = recurrent_native.native_of_words(program, LSTM.native, words, False, False, held)
    pull(torch.ones_like(outputs), False)
    program.run()
expected = whole_sequence(LSTM, table[ids], None, False, *held)
slopes = torch.autograd.grad(expected.sum(), (table, *held))
for ours, theirs in zip((outputs, *views.values()), (expected.detach(), *slopes)):
    assert float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max()), (ours, theirs)
"""


@pytest.mark.parametrize("limit", ["1", "2", "3"])
def test_fewer_threads_than_were_asked_for(limit: str) -> None:
    """The system may give fewer: each then has more of the rows, and more words."""
    environment = {**os.environ, "OMP_THREAD_LIMIT": limit}
    subprocess.run([sys.executable, "-c", SMALLER_TEAM], env=environment, check=True)


def test_a_table_that_is_large_for_a_batch_is_looked_up() -> None:
    """Its words would have to be noted, however few of them a batch has."""
    for count, taken in ((16 * 12, True), (16 * 12 + 1, False)):
        layers, cells = two({"Embedding": {"input_dim": count, "output_dim": 3}}, {"LSTM": {"units": 2}})
        with torch.no_grad():
            found = layers[0].forward_with(cells[0], torch.ones(2, 6, dtype=torch.int32), layers[1], cells[1], None)
        assert (found is not None) == taken


def test_no_rows_at_all() -> None:
    layers, cells = two({"Embedding": {"input_dim": 5, "output_dim": 3}}, {"LSTM": {"units": 2}})
    for shape in ((0, 6), (3, 0)):
        assert layers[0].forward_with(cells[0], torch.ones(shape, dtype=torch.int64), layers[1], cells[1], None) is None


def test_judging_keeps_no_room_for_words() -> None:
    layers, cells = two({"Embedding": {"input_dim": 50, "output_dim": 3}}, {"GRU": {"units": 2}})
    recurrent_native._spare.clear()
    with torch.no_grad():
        assert (
            layers[0].forward_with(cells[0], torch.ones(9, 6, dtype=torch.int64), layers[1], cells[1], None) is not None
        )
    assert all("given" not in room for _, room in recurrent_native._spare)
    assert len(recurrent_native._spare) == 1
