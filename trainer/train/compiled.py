"""Steps as one function of machine code, which takes many of them at a time.

A step of a small model is mostly the calling of its operations, and one of a larger model goes through memory for
each of them. Those of its program (`direct.py`) and of the optimizer are written as C and compiled when training
begins; an epoch is then a few calls. In larger steps torch's threads do a share each of every operation.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from trainer.errors import DataError
from trainer.layers.base import Layer
from trainer.layers.dense import Dense
from trainer.model.cell import Cell
from trainer.model.network import Network
from trainer.native.calls import get_ready
from trainer.native.compiler import Uncompiled, library
from trainer.native.operations import UNKNOWN, Resident, Statements
from trainer.native.text import NotInC
from trainer.native.threads import team
from trainer.optimizers.updater import Updater
from trainer.program import Draw
from trainer.switches import on
from trainer.train.devices import step_work
from trainer.train.direct import Direct
from trainer.train.feed import Feed, Slot, readers
from trainer.train.passes import Pass
from trainer.train.scores import MOST_NUMBERS, MOST_STEPS
from trainer.train.updates_in_c import update_in_c

if TYPE_CHECKING:
    from trainer.train.loop import Training

SHARED_STEP = 8_000_000
"Multiply-adds of a step that threads share; in smaller ones they would wait for each other at every turn."
LARGE_STEP = 1 << 30
"Multiply-adds of a step that has nothing to gain: its products are all that counts."
MOST_WORK = 1 << 32
"Multiply-adds between two looks at signals."
WORTHWHILE = 0.05
"Seconds that compiled steps must be expected to save. Compiling takes about 0.3, but only the first time."
OPERATION, LAYER, AROUND = 1.7e-6, 6, 10
"Seconds that calling an operation takes; how many there are for a layer, both ways, and around the layers' own."
MOVING = 5e-10
"Seconds for each weight that moving it in one pass saves."
LISTING = 1.5e-8
"Seconds for each id in lists that adding up its vectors where they lie saves."
ADDING = 4
"Multiply-adds of a product that take as long as adding a number of a vector which lies anywhere."
FEW_STEPS = 20
"Steps that compiled layers bring nothing in."
AROUND_PARTS = ("data", "metrics", "update")
"What a step is beside the operations of its program."
BETWEEN = 2
"Place of the time between calls, behind the clock's own two numbers (`clock.h`)."


class Compiled:
    """The steps of a training on resident rows.

    Raises:
        Uncompiled: they have no form in C, or there is no compiler; the message says why.
    """

    def __init__(self, training: Training, *, asked: bool):
        """`asked`: whether or not it seems worthwhile."""
        self.training, self.feed, self.size = training, training.train, training.fit.batch_size
        direct, self.updater = _held(training)
        listed, spared = _listed(training)
        work = max(1, step_work(training.network.graph, self.size) - spared)
        if not asked:
            self._weigh(work, listed)
        made = self._pass(direct, 0)
        drawn = [operation.into for operation in made.program.operations if isinstance(operation, Draw)]
        numbers = sum(tensor.numel() for tensor in (*made.outputs, *drawn))
        self.most = max(1, min(MOST_STEPS, MOST_NUMBERS // numbers, MOST_WORK // work))
        "Steps of one call."
        whole, short = divmod(len(self.feed), self.size)
        parts = [_Steps(made, self.feed, self.updater, self.size, self.most, work, clocked=training.clocked)]
        if short:
            last = self._pass(direct, whole)
            parts.append(_Steps(last, self.feed, self.updater, short, 1, work, clocked=training.clocked))
        shared = ["#define SHARED"] * (torch.get_num_threads() > 1)
        headers = [f'#include "{name}.h"' for name in ("kernels", "halves", "lists", *["clock"] * training.clocked)]
        library = _library("\n".join([*shared, *headers, *(part.text for part in parts)]) + "\n")
        for part in parts:
            part.load(library)
        self._whole, self._short = parts[0], parts[1] if short else None

    def _pass(self, direct: Direct, number: int) -> Pass:
        """The program of a batch."""
        made = direct.built(next(self.feed.batches(self.size, None, number, number + 1)))
        if made is None or not made.losses_follow:
            raise Uncompiled("autograd has a part in every step")
        return made

    def _weigh(self, work: int, listed: int) -> None:
        """Refuse what would not gain by it; `listed` is the number of ids that lists of a step hold."""
        if work >= LARGE_STEP:
            raise Uncompiled("its steps are large")
        fit, operations = self.training.fit, LAYER * len(self.training.network.steps) + AROUND
        steps = self.training.steps * (fit.epochs - fit.initial_epoch)
        moved = MOVING * len(self.updater.weight)
        if (operations * OPERATION + moved + LISTING * listed) * steps < WORTHWHILE:
            raise Uncompiled("its steps are too few for the time that compiling takes")

    def run(self, order: np.ndarray, start: int, stop: int) -> Iterator[int]:
        """Batches `start` to `stop` of the rows in their order; how many steps each call took."""
        while start < stop:
            # Calls end at the same steps whether or not training was stopped on the way: sums depend on it.
            end = min(stop, start - start % self.most + self.most)
            self._steps(order[start * self.size : end * self.size], end - start)
            yield end - start
            start = end

    def _steps(self, rows: np.ndarray, count: int) -> None:
        updater, training = self.updater, self.training
        whole, short = divmod(len(rows), self.size)
        first = training.epoch * training.steps + training.batch
        self.draw(first, whole, short)
        numbers = self._whole.numbers_of(updater.learning_rates(count), updater.calls + 1)
        updater.calls += count
        self.call(rows, np.stack(numbers, axis=1).astype(np.float32), count)
        index = torch.from_numpy(rows)
        ys = [slot.resident.index_select(0, index) for slot in self.feed.ys if slot.resident is not None]
        outputs = [kept[:whole].flatten(0, 1) for kept in self._whole.outputs]
        if self._short is not None and short:
            outputs = [torch.cat([o, kept[0]]) for o, kept in zip(outputs, self._short.outputs, strict=True)]
        penalties = self._penalties(whole, short)
        training.scores.add_all(ys, outputs, [self.size] * whole + [short] * bool(short), penalties)

    def _penalties(self, whole: int, short: int) -> Tensor | None:
        """Those of each step of the last call, on weights."""
        if not self._whole.penalties.numel():
            return None
        found = self._whole.penalties[:whole]
        return torch.cat([found, self._short.penalties]) if self._short is not None and short else found

    def draw(self, first: int, whole: int, short: int) -> None:
        """Make the draws of `whole` steps from number `first` on, and of the one on what is left, if any is."""
        self._whole.draw(self.training, first, whole)
        if self._short is not None and short:
            self._short.draw(self.training, first + whole, 1)

    def call(self, rows: np.ndarray, numbers: np.ndarray, count: int) -> None:
        """`count` steps on rows of these numbers, the last one on what is left of them; `numbers` are those that the
        optimizer reads of each step.

        Raises:
            DataError: an id or a label is out of range.
        """
        whole = len(rows) // self.size
        if whole:
            self._whole.run(rows, numbers, whole)
        if whole < count and self._short is not None:
            self._short.run(rows[whole * self.size :], numbers[whole:], 1)

    def spent(self) -> Iterator[tuple[str, str, float]]:
        """(part, layer, seconds) since this was asked last, for a training under a clock."""
        for steps in (self._whole, self._short):
            if steps is not None:
                yield from steps.spent()


def compiled(training: Training) -> Compiled | None:
    """Compile the steps of a training, or else layers in them, where it seems worthwhile or is asked for.

    None when steps as a whole can't be or are not; `uncompiled_since` then says why.
    """
    asked = bool(training.jit_compile)
    failure = _compile_layers(training, asked) if training.engine != "plain" and on("hand") else ""
    if training.jit_compile == "layers":
        training.uncompiled_since = failure or "the run began so"
        return None
    try:
        with torch.no_grad():
            made = Compiled(training, asked=asked)
    except Uncompiled as error:
        training.uncompiled_since = failure or str(error)
        return None
    training.uncompiled_since = ""
    return made


def _compile_layers(training: Training, asked: bool) -> str:
    """Compile layers where it seems worthwhile or is asked for; why that can't be."""
    few = training.steps * (training.fit.epochs - training.fit.initial_epoch) < FEW_STEPS
    if few and not asked:
        return ""
    try:
        compile_layers(training.network, alone=training.direct is None)
    except Uncompiled as error:
        return str(error)
    return ""


def compile_layers(network: Network, *, alone: bool, trains: bool = True) -> None:
    """Let layers be compiled code, those that have such a form.

    `alone`: no more than what autograd goes through; where nothing `trains`, no more than what has a part in judging.

    Raises:
        Uncompiled: there is no compiler, or no way to torch's threads.
    """
    headers = _headers(network, alone=alone, trains=trains)
    for header in sorted(headers):
        get_ready(header)
    network.clock.compiles = bool(headers)
    network.clock.joins = bool(headers) and not alone


def _headers(network: Network, *, alone: bool, trains: bool) -> set[str]:
    """The headers that layers call; see `compile_layers`."""
    cells = (module for module in network.modules() if isinstance(module, Cell))
    known = (cell for cell in cells if isinstance(cell.acts, Layer) or cell.layer.compiles_typed)
    headers = {cell.layer.compiles_for_autograd(cell, network.masked, trains) for cell in known}
    for step in network.steps if not alone else ():
        after, layer = network.after(step), step.cell.layer
        judges = type(layer).forward_with is not Layer.forward_with and not layer.compiles_back
        if (trains or judges) and (layer is step.layer or layer.compiles_typed):
            headers.add(layer.compiles(step.cell, None if after is None else after.cell.layer))
    return headers - {""}


class _Steps:
    """Steps on batches of one size: a function of C, and where it puts what comes of it.

    Raises:
        Uncompiled: they have no form in C; the message says why.
    """

    def __init__(self, made: Pass, feed: Feed, updater: Updater, size: int, most: int, work: int, *, clocked: bool):
        self.made, self.feed, self.size, self.most, self.clocked = made, feed, size, most, clocked
        self._parts: list[tuple[str, str]] = []
        "(part, layer) of each time."
        self._times = torch.zeros(BETWEEN + 1 + len(made.marks) + len(AROUND_PARTS), dtype=torch.int64)
        self._times[1] = BETWEEN
        self.name = f"steps_of_{size}"
        self.outputs = [torch.empty(most, *output.shape) for output in made.outputs]
        "What the steps of a call made."
        self.penalties = torch.empty(most if made.penalty is not None else 0)
        self._draws: list[tuple[Draw, tuple[Tensor, ...]]] = []
        "With what each step of a call reads."
        self._threads = torch.get_num_threads() if work >= SHARED_STEP else 1
        self._team = team() if self._threads > 1 else None
        self.c = Statements(shared=torch.get_num_threads() > 1)
        try:
            self.text = self._text(updater)
        except NotInC as error:
            raise Uncompiled(f"there is no C for {error}") from None

    def load(self, library: ctypes.CDLL) -> None:
        """Take the function from what was compiled."""
        self._function = getattr(library, self.name)
        self._function.restype = ctypes.c_int
        self._pointers = self.c.pointers()

    def draw(self, training: Training, first: int, count: int) -> None:
        """Make the draws of `count` steps from number `first` on."""
        for step in range(count if self._draws else 0):
            training.network.clock.step = first + step
            for draw, each in self._draws:
                draw.function(each[step])

    def run(self, rows: np.ndarray, numbers: np.ndarray, count: int) -> None:
        """`count` steps.

        Raises:
            DataError: an id or a label is out of range.
        """
        given = [ctypes.c_void_p(array.ctypes.data) for array in (rows, numbers)]
        counts = [ctypes.c_long(number) for number in (count, self._threads)]
        wrong = self._function(self._pointers, *given, *counts, self._team)
        for check in self.c.checks if wrong == UNKNOWN else ():
            check()
        if wrong:
            raise DataError("a label is no class of the model's output", hint="labels count from 0", code="label")

    def spent(self) -> Iterator[tuple[str, str, float]]:
        """See `Compiled.spent`."""
        times = self._times[BETWEEN + 1 :]
        for (part, layer), nanoseconds in zip(self._parts, times.tolist(), strict=False):
            yield part, layer, nanoseconds * 1e-9
        times.zero_()

    def _text(self, updater: Updater) -> str:
        """The function."""
        slots = (*self.feed.xs, *self.feed.ys)
        row = [self._gather(slot, own) for slot, own in zip(slots, self.made.buffers(), strict=True)]
        first, kept_by, moved_by = (self._turn_to(part) for part in AROUND_PARTS)
        self._add_operations()
        update, self.numbers_of = update_in_c(updater, self.c)
        outputs = [(self.outputs[place], output) for place, output in enumerate(self.made.outputs)]
        penalty = [] if self.made.penalty is None else [(self.penalties, self.made.penalty)]
        kept = [self._keep(each, made) for each, made in (*outputs, *penalty)]
        gathered = f"{first}for (long r = FROM({self.size}); r < TO({self.size}); r++) {{ {' '.join(row)} }}"
        lines = [
            f"STEPS static void share_of_{self.name}(struct work *work, long me, long all) {{",
            "    void **p = work->p;",
            "    const whole *rows = work->rows;",
            "    const float *numbers = work->numbers;",
            "    const long count = work->count;",
            *(f"    {line}" for line in self.c.declarations()),
            "    for (long s = 0; s < count; s++) {",
            *(f"        {line} MEET;" for line in (gathered, *self.c.lines)),
            *(f"        {line}" for line in (kept_by, *kept, moved_by) if line),
            *(f"        {line} MEET;" for line in update),
            "    }",
            f"    {self._turn(BETWEEN)}",
            "}",
            f"int {self.name}(void **p, const whole *rows, const float *numbers, long count, long threads,",
            "        struct team *team) {",
            "    struct work work = {p, rows, numbers, count};",
            *(f"    {line}" for line in self.c.parts()),
            f"    together(share_of_{self.name}, &work, threads, team);",
            "    return work.wrong;",
            "}",
        ]
        return "\n".join(lines)

    def _add_operations(self) -> None:
        marks, turn = {mark.at: mark for mark in self.made.marks}, ""
        for place, operation in enumerate(self.made.program.operations):
            if place in marks:
                turn = self._turn_to(marks[place].part, marks[place].layer)
            if isinstance(operation, Draw):
                self._draw_before(operation)
                continue
            before = len(self.c.lines)
            try:
                self.c.add(operation)
            except NotInC as error:
                layer = [mark.layer for mark in self.made.marks if mark.at <= place][-1]
                raise NotInC(f"{layer} ({error})" if layer else str(error)) from None
            if self.c.lines[before:]:
                self.c.lines[before] = turn + self.c.lines[before]
                turn = ""

    def _turn_to(self, part: str, layer: str = "") -> str:
        """C from which on the time is that of a part, for a training under a clock."""
        if (part, layer) not in self._parts:
            self._parts.append((part, layer))
        return self._turn(BETWEEN + 1 + self._parts.index((part, layer)))

    def _turn(self, place: int) -> str:
        return f"ALONE turn_to({self.c.pointer(self._times)}, {place}); " if self.clocked else ""

    def _draw_before(self, draw: Draw) -> None:
        """What is drawn stands ready for every step of a call."""
        if not draw.into.is_contiguous():
            raise NotInC("draws of this layout")
        each = torch.empty(self.most, *draw.into.shape, dtype=draw.into.dtype)
        self.c.stand_for(draw.into, each)
        self._draws.append((draw, each.unbind()))

    def _gather(self, slot: Slot, own: Any) -> str:
        """C that copies a row of the batch; lists are read where they are."""
        if slot.bags is not None:
            places, offsets, width = slot.bags.places, slot.bags.offsets, slot.bags.width
            self.c.stand_for_lists(own, Resident(places, offsets, width, self.size))
            return ""
        assert slot.resident is not None
        # A target of whole numbers that a loss reads as fractions.
        held = slot.resident.to(own.dtype).contiguous()
        width = own[0].numel()
        to, source, bytes_ = self.c.pointer(own), self.c.pointer(held), width * own.element_size()
        return f"memcpy({to} + r * {width}, {source} + rows[s * {self.size} + r] * {width}, {bytes_});"

    def _keep(self, kept: Tensor, output: Tensor) -> str:
        """C that copies an output."""
        if not output.is_contiguous():
            raise NotInC("an output of this layout")
        count = output.numel()
        return f"ALONE memcpy({self.c.pointer(kept)} + s * {count}, {self.c.pointer(output)}, {4 * count});"


def _held(training: Training) -> tuple[Direct, Updater]:
    """What makes steps and updates; a training whose steps need what C is not given is refused."""
    if training.direct is None or not isinstance(training.updater, Updater):
        raise Uncompiled(f"gradients come from autograd, since {training.autograd_since}")
    if any(callback.needs_batches for callback in training.callbacks):
        raise Uncompiled("callbacks look at batches")
    if training.network.fronts:
        raise Uncompiled("preprocessing draws anew for each batch")
    feed = training.train
    slots = (*feed.xs, *feed.ys)
    if any(weight is not None for weight in feed.weights):
        raise Uncompiled("rows are weighed")
    ready = (slot.bags is not None or (slot.resident is not None and slot.resident.is_contiguous()) for slot in slots)
    if not all(ready):
        raise Uncompiled("rows are made batch by batch")
    if len(feed) < training.fit.batch_size:
        raise Uncompiled("there is no whole batch")
    return training.direct, training.updater


def _listed(training: Training) -> tuple[int, int]:
    """How many ids the lists of a step hold, and how many multiply-adds a product with zeros and ones takes more."""
    feed, wiring, size = training.train, training.network.graph.wiring, training.fit.batch_size
    listed = spared = 0
    for slot, number in zip(feed.xs, wiring.inputs.values(), strict=True):
        if slot.bags is not None:
            held = len(slot.bags.places) * size // len(feed)
            listed += held
            units = sum(layer.units for layer in readers(wiring, number) if isinstance(layer, Dense))
            spared += (slot.bags.width * size - ADDING * held) * units
    return listed, spared


@functools.lru_cache(16)
def _library(text: str) -> ctypes.CDLL:
    """The folds of a run have one text."""
    return library(text)
