"""Steps on a GPU recorded once, as a graph of kernels, and played back.

A step is some hundred kernels, and Python takes longer to ask for a small one than the GPU to run it. A step that has
been recorded is asked for by one call. It works on the memory that it was recorded with: a batch is copied there, and
what came of it is copied away. What follows from the position in training is put in place before each playing: the
seeds of all draws, and the scale of the loss; the optimizer, a few kernels on flat tensors, stays outside. What layers
make in a step keeps its memory for the whole training.
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Generator, Tensor

from trainer.model.cell import Cell
from trainer.model.network import Network
from trainer.optimizers.updater import Updater
from trainer.optimizers.updaters import Updaters
from trainer.train.feed import Batch
from trainer.train.objective import Objective
from trainer.train.scores import Seen
from trainer.train.scoring import judge

if TYPE_CHECKING:
    from trainer.train.loop import Training

FEW_STEPS = 20
"Steps that a recording, which takes as long as several of them, brings nothing in."
REHEARSALS = 3
"Steps before a recording, in which libraries choose their kernels and take their memory."


class Unrecorded(Exception):
    """Steps can't be recorded; the message says why."""


class Tape(Protocol):
    """What records kernels and plays them back."""

    def __init__(self, device: torch.device): ...

    def rehearse(self, function: Callable[[], Any]) -> None:
        """Run a function as it will be recorded."""

    def record(self, function: Callable[[], Any], generators: Sequence[Generator]) -> Any:
        """What a function gives: tensors that every playing fills anew. `generators` are those that it draws from."""

    def play(self) -> None:
        """Run what was recorded."""


class CudaTape:
    """A CUDA graph."""

    def __init__(self, device: torch.device):
        self._device, self._graph = device, torch.cuda.CUDAGraph()

    def rehearse(self, function: Callable[[], Any]) -> None:
        with torch.cuda.device(self._device):
            main, side = torch.cuda.current_stream(), torch.cuda.Stream()
            side.wait_stream(main)
            # A recording that fails leaves torch in a state of its own: what would end it is to show beforehand.
            mode = torch.cuda.get_sync_debug_mode()
            torch.cuda.set_sync_debug_mode("error")
            try:
                with torch.cuda.stream(side):
                    function()
            finally:
                torch.cuda.set_sync_debug_mode(mode)
            main.wait_stream(side)

    def record(self, function: Callable[[], Any], generators: Sequence[Generator]) -> Any:
        with torch.cuda.device(self._device):
            for generator in generators:
                self._graph.register_generator_state(generator)
            main = torch.cuda.current_stream()
            try:
                with torch.cuda.graph(self._graph, stream=torch.cuda.Stream()):
                    return function()
            finally:
                torch.cuda.set_stream(main)

    def play(self) -> None:
        with torch.cuda.device(self._device):
            self._graph.replay()


TAPES: dict[str, type[Tape]] = {"cuda": CudaTape}
"What records, by kind of device."


class Recorded:
    """The step of a training on batches of one shape, recorded.

    Raises:
        Unrecorded: something in it can't be.
    """

    def __init__(self, network: Network, objective: Objective, updater: Updater | Updaters, batch: Batch):
        if not all(isinstance(t, Tensor) for t in (*batch.xs, *batch.ys)):
            raise Unrecorded("rows are lists of ids, of another length in each batch")
        self._network, self._objective, self._updater = network, objective, updater
        device = batch.xs[0].device
        weights = tuple([None if weight is None else weight.clone() for weight in batch.weights])
        self._own = Batch(tuple([x.clone() for x in batch.xs]), tuple([y.clone() for y in batch.ys]), weights)
        self._scale = None if updater.dynamic is None else torch.ones((), device=device)
        self._tape = TAPES[device.type](device)
        self._draws = _Draws(device)
        try:
            with network.unmoved(), self._draws.dealt(network):
                for _ in range(REHEARSALS):
                    self._draws.listen()
                    self._tape.rehearse(self._step)
                    network.forget_draws()
                self._draws.deal()
                self._seen, self._gradients = self._tape.record(self._step, self._draws.generators)
        except RuntimeError as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise Unrecorded(f"the GPU refuses: {why}") from error
        self._form: Any = None

    def _step(self) -> tuple[Seen, Sequence[Tensor | None]]:
        scale = self._updater.scale if self._scale is None else self._scale
        with torch.enable_grad():
            judged = judge(self._network, self._objective, self._own)
            return judged.seen(), judged.gradients(self._updater.parameters, scale)

    def step(self, batch: Batch) -> Seen | None:
        """Update the weights by a batch; None, and nothing is done, when it is of another shape."""
        if any(own.shape != given.shape for own, given in zip(self._own.xs, batch.xs, strict=True)):
            return None
        self.play(batch)
        self._updater.apply(self._gradients)
        copies = [None if t is None else t.clone() for t in self._seen.flat()]
        seen = Seen.of(copies, len(self._own.ys))._replace(kind=self._form)
        self._form = self._form or seen.form()
        return seen

    def play(self, batch: Batch) -> None:
        """Outputs, losses and gradients of a batch."""
        for mine, theirs in zip(_parts(self._own), _parts(batch), strict=True):
            for own, given in zip(mine, theirs, strict=True):
                if own is not None:
                    own.copy_(given)
        if self._scale is not None:
            self._scale.fill_(self._updater.scale)
        self._draws.seed()
        self._tape.play()


def _parts(batch: Batch) -> tuple[Sequence[Any], ...]:
    return batch.xs, batch.ys, batch.weights


def recorded(training: Training) -> Recorded | None:
    """Record the step of a training, where it is on a GPU and that seems worthwhile or is asked for.

    None when it can't be or is not; `uncompiled_since` then says why.
    """
    steps = training.steps * (training.fit.epochs - training.fit.initial_epoch)
    if training.engine == "plain" or training.direct is not None:
        return None
    if steps < FEW_STEPS and not training.jit_compile:
        training.uncompiled_since = "its steps are too few for the time that a recording takes"
        return None
    try:
        batch = next(training.train.batches(training.fit.batch_size, stop=1))
        made = Recorded(training.network, training.objective, training.updater, batch)
    except Unrecorded as error:
        training.uncompiled_since = str(error)
        return None
    training.uncompiled_since = ""
    return made


class _OfDevice(Generator):
    """Random numbers for the device alone: what is drawn on the host would be recorded as it was drawn once."""

    def initial_seed(self) -> int:
        raise Unrecorded("a layer draws its random numbers on the host")


class _Draws:
    """Who draws in a step, in their order, and a generator for each."""

    def __init__(self, device: torch.device):
        self._device = device
        self._asked: list[tuple[Cell, int | None]] = []
        self._next: Iterator[Generator] = iter(())
        self.generators: list[Generator] = []

    @contextlib.contextmanager
    def dealt(self, network: Network) -> Iterator[None]:
        """Layers get their generators here."""
        network.clock.deals = self._deal
        try:
            yield
        finally:
            network.clock.deals = None

    def listen(self) -> None:
        """Note who asks, from now on."""
        self._asked.clear()

    def deal(self) -> None:
        """Hand those who asked, in the same order, the generators that they keep."""
        self.generators = [_OfDevice(self._device) for _ in self._asked]
        self.seed()
        self._next = iter(self.generators)

    def _deal(self, cell: Cell, seed: int | None) -> Generator:
        if not self.generators:
            self._asked.append((cell, seed))
            return _OfDevice(self._device).manual_seed(cell.draw_seed(seed))
        found = next(self._next, None)
        if found is None:
            raise Unrecorded("the number of draws is not the same in each step")
        return found

    def seed(self) -> None:
        """Let each draw what its layer draws at this step."""
        for generator, (cell, seed) in zip(self.generators, self._asked, strict=True):
            generator.manual_seed(cell.draw_seed(seed))
