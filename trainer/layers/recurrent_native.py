"""SimpleRNN, LSTM and GRU as compiled code that takes a few rows of the batch through the whole sequence, and back."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from trainer.lazy import torch
from trainer.native.calls import BothWays, Call
from trainer.switches import on

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.layers.base import Words
    from trainer.program import Program, Pull

MOST_WEIGHTS = 1 << 21
"Numbers of both kernels up to which this is the fastest way."
MOST_SEEN = 1024
"Features and units together, up to which some rows of them fit a thread's stack."
LANES = 16
"Units that are taken together."
STATES = ("states", "carries")
MOST_SPARE = 8
"Layers whose room is kept for later ones."
_SIZES = ("batch", "time", "features", "units", "every", "backwards", "keeps", "relu", "words", "rounds", "spares")
_TENSORS = (
    *("x", "kernel", "recurrent", "bias", "recurrent_bias", "first_h", "first_c"),
    *("x_drops", "h_drops", "counts", "ids", "table", "places", "own", "counted", "spans", "shares"),
    *("given", "table_slopes"),
    *("panels", "turned", "gates", "states", "carries", "outputs", "slopes", "last_h_slopes", "last_c_slopes"),
    *("x_slopes", "first_h_slopes", "first_c_slopes", "sums", "kernel_slopes", "recurrent_slopes", "bias_slopes"),
)


class Native(NamedTuple):
    """A recurrent layer as a header under `native/`."""

    name: str
    gates: int
    "Blocks of columns that the kernels have."
    biases: int
    states: int
    slots: int
    "Numbers that each unit has."
    most: int
    "Numbers of both kernels up to which it is faster than one kernel of torch's, where there is one."
    relu: bool = False

    @property
    def header(self) -> str:
        """The header's name."""
        return f"{self.name}.h"


LSTM = Native("lstm", 4, 1, 2, 4, 1 << 19)
GRU = Native("gru", 3, 2, 1, 4, MOST_WEIGHTS)
"With `reset_after`."
SIMPLE_TANH = Native("simple", 1, 1, 1, 1, MOST_WEIGHTS)
SIMPLE_RELU = SIMPLE_TANH._replace(relu=True)


def can_be_native(kind: Native, weights: Sequence[Tensor | None], *, alone: bool) -> bool:
    """Whether a layer with a kernel, a recurrent kernel and a bias is for compiled code.

    `alone`: no kernel of torch's could take the whole sequence.
    """
    held, kernels = [t for t in weights if t is not None], [t for t in weights[:2] if t is not None]
    plain = all(t.dtype == torch.float32 and t.device.type == "cpu" and t.is_contiguous() for t in held)
    most = MOST_WEIGHTS if alone else min(kind.most, MOST_WEIGHTS)
    return plain and sum(map(len, kernels)) <= MOST_SEEN and sum(t.numel() for t in kernels) <= most


def native_by_hand(
    p: Program, kind: Native, x: Tensor, mask: Tensor | None, every: bool, backwards: bool, weights: Sequence[Any]
) -> tuple[Tensor, Pull]:
    """The layer as operations of a program: the states of every step (batch, time, units), or the last one."""
    return _Layer(kind, p.laid(x), every, backwards, *weights, mask=_kept_up(p, mask)).operations(p)


def _room_for_words(words: Words, kind: Native, units: int, threads: int) -> Room:
    """What the code works in where vectors are looked up, with at most so many threads."""
    most = min(words.ids.numel(), threads * len(words.table))
    return {
        "places": torch.full((threads, len(words.table)), -1, dtype=torch.int32),
        "own": torch.empty(most, dtype=torch.int32),
        "counted": torch.empty(threads, dtype=torch.int32),
        "given": torch.empty(most, kind.slots * (-(-units // LANES) * LANES)),
    }


def native_of_words(
    p: Program, kind: Native, words: Words, every: bool, backwards: bool, weights: Sequence[Any]
) -> tuple[Tensor, Pull]:
    """`native_by_hand` of vectors that are looked up, together with the way back to their table."""
    words = words._replace(mask=_kept_up(p, words.mask))
    return _OfWords(kind, words, every, backwards, *weights).operations(p)


def native_sequence_of_words(
    kind: Native, words: Words, every: bool, backwards: bool, weights: Sequence[Any]
) -> Tensor:
    """What `native_of_words` makes, where no gradient is wanted.

    Raises:
        Uncompiled: there is no compiler, or no way to torch's threads.
    """
    layer = _OfWords(kind, words, every, backwards, *weights, keeps=False)
    layer.there()
    return layer.outputs


def native_sequence(
    kind: Native,
    x: Tensor,
    mask: Tensor | None,
    first: Sequence[Tensor],
    every: bool,
    weights: Sequence[Tensor | None],
    drops: Sequence[Sequence[Tensor]] = ((), ()),
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The layer, for autograd too: (the states of every step or the last one, the last states), from `first` or zeros.

    `drops` are factors of what each gate sees of the input, and of the state: (batch, features) and (batch, units).

    Raises:
        Uncompiled: there is no compiler, or no way to torch's threads.
    """
    held = {name: torch.stack(tuple(each)) for name, each in zip(("x_drops", "h_drops"), drops, strict=True) if each}
    if mask is not None:
        held["counts"] = _counts(mask)
    if torch.is_grad_enabled():
        outputs, *last = _function().apply(kind, held, every, x, *weights, *first)
    else:
        layer = _gone_through(kind, held, every, x, weights, first, keeps=False)
        outputs, last = layer.outputs, layer.last_states()
    if mask is not None and first:
        # The output, unlike the state, is zero up to the first step that counts.
        begun = held["counts"].cumsum(1) > 0 if every else held["counts"].any(1)
        outputs = outputs.masked_fill(~begun.unsqueeze(-1), 0)
    return outputs, tuple(last)


def _gone_through(
    kind: Native,
    held: Mapping[str, Tensor],
    every: bool,
    x: Tensor,
    weights: Sequence[Any],
    first: Sequence[Tensor],
    *,
    keeps: bool,
) -> _Layer:
    layer = _Layer(kind, x.contiguous(), every, False, *weights, keeps=keeps)
    states = [state.contiguous() for state in first]
    layer.call.hold(**held, **dict(zip(("first_h", "first_c"), states, strict=False)))
    layer.there()
    return layer


@functools.cache
def _function() -> Any:
    """The autograd function, made at first use because its base class needs torch."""
    from torch.autograd.function import Function, once_differentiable

    class NativeSequence(Function):
        @staticmethod
        def forward(ctx: Any, kind: Native, held: dict[str, Tensor], every: bool, x: Tensor, *given: Any) -> Any:
            layer = _gone_through(kind, held, every, x, given[:3], given[3:], keeps=True)
            ctx.layer, ctx.shapes = layer, [None if t is None else t.shape for t in given]
            # Autograd then sees to it that nobody overwrites them before the way back.
            ctx.save_for_backward(x, *given)
            ctx.set_materialize_grads(False)
            return layer.let_go(), *layer.last_states()

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, gradient: Tensor | None, *of_last: Tensor | None) -> tuple[Any, ...]:
            arriving = [None if t is None else t.contiguous() for t in (gradient, *of_last)]
            call, wanted, _ = ctx.layer.call, ctx.needs_input_grad, ctx.saved_tensors
            call.hold(**dict(zip(("slopes", "last_h_slopes", "last_c_slopes"), arriving, strict=False)))
            made = [torch.empty(shape) if shape is not None else None for shape in ctx.shapes]
            of_x = torch.empty_like(ctx.layer.x) if wanted[3] else None
            names = ("kernel_slopes", "recurrent_slopes", "bias_slopes", "first_h_slopes", "first_c_slopes")
            call.hold(x_slopes=of_x, **{n: t for n, t in zip(names, made, strict=False) if t is not None})
            ctx.layer.back()
            call.hold(slopes=None, last_h_slopes=None, last_c_slopes=None, x_slopes=None)
            return None, None, None, of_x, *made

    return NativeSequence


Room = dict[str, "Tensor"]


class _Key(NamedTuple):
    """What a room follows from."""

    kind: Native
    batch: int
    steps: int
    features: int
    units: int
    threads: int


_spare: list[tuple[_Key, Room]] = []
"Rooms that nobody works in, by what they are for; the longest unused first."


def _leave(key: _Key, room: Room) -> None:
    """Leave a room to the next layer of this shape: made anew in each step, it would lie anywhere in the heap."""
    _spare.append((key, room))
    del _spare[:-MOST_SPARE]


def _room(key: _Key) -> Room:
    """What a layer works in, that of an earlier one if there is some."""
    for _ in range(len(_spare)):
        # Whenever Python looks for garbage, another room may be left.
        found, room = _spare.pop()
        if found == key:
            return room
        _spare.insert(0, (found, room))
    kind, batch, steps, features, units, threads = key
    padded = -(-units // LANES) * LANES
    width = kind.slots * padded
    return {
        # The order of rows, from and up to which step each is computed, and what is idle at a row's ends.
        "spans": torch.empty(5, batch, dtype=torch.int32),
        "shares": torch.empty(1, dtype=torch.int32),
        # What no step writes must be zero.
        "panels": torch.zeros(features + units, width),
        "turned": torch.zeros(width, -(-features // LANES) * LANES + padded),
        "gates": torch.empty(steps, batch, width),
        "sums": torch.empty(threads, features + units + 1, width),
        **{name: torch.empty(steps + 1, batch, padded) for name in STATES[: kind.states]},
    }


class _Layer(BothWays):
    """A layer for batches of one shape: what it keeps between the way there and the way back.

    Raises:
        Uncompiled: there is no compiler, or no way to torch's threads.
    """

    def __init__(
        self,
        kind: Native,
        x: Tensor,
        every: bool,
        backwards: bool,
        kernel: Tensor,
        recurrent: Tensor,
        bias: Tensor | None,
        *,
        mask: Tensor | None = None,
        keeps: bool = True,
        words: Words | None = None,
    ):
        """`mask` (batch, time) says which steps count; `keeps`: there will be a way back.

        With `words` x is their ids.
        """
        (batch, time), features, units = x.shape[:2], len(kernel), len(recurrent)
        known = 0 if words is None else len(words.table)
        rounds = words is not None and words.rounded
        numbers = (batch, time, features, units, every, backwards, keeps, kind.relu, known, rounds, on("padding"))
        sizes = zip(_SIZES, numbers, strict=True)
        call = Call(kind.header, dict(sizes), _TENSORS)
        outputs = torch.empty((batch, time, units) if every else (batch, units))
        slopes = [torch.empty_like(kernel), torch.empty_like(recurrent), torch.empty(kind.biases, kind.gates * units)]
        biases = [None, None] if bias is None else [*bias.view(kind.biases, -1), None][:2]
        super().__init__(kind.name, call, x, outputs, list(zip((kernel, recurrent, bias), slopes, strict=True)))
        self._kind, self._units = kind, units
        self._last = time if keeps else time % 2
        self._key = _Key(kind, batch, time if keeps else 1, features, units, call.threads)
        self._room = _room(self._key)
        # As long as the call, which an operation may keep alone.
        weakref.finalize(call, _leave, self._key, self._room).atexit = False
        call.hold(
            **({"x": x} if words is None else {"ids": words.ids, "table": words.table.detach()}),
            **({} if words is None else _room_for_words(words, kind, units, call.threads)),
            **({} if mask is None else {"counts": _counts(mask)}),
            kernel=kernel.detach(),
            recurrent=recurrent.detach(),
            bias=biases[0],
            recurrent_bias=biases[1],
            outputs=outputs,
            **self._room,
            **dict(zip(("kernel_slopes", "recurrent_slopes", "bias_slopes"), slopes, strict=True)),
        )

    def last_states(self) -> list[Tensor]:
        """Copies of the states (batch, units) after the last step."""
        order = self._room["spans"][0].long()
        lie = [self._room[name][self._last, :, : self._units] for name in STATES[: self._kind.states]]
        return [torch.empty_like(state).index_copy_(0, order, state) for state in lie]

    def let_go(self) -> Tensor:
        """The outputs, no longer held: what autograd keeps for the way back must not hold what came of it."""
        made = self.outputs
        del self.outputs
        self.call.hold(outputs=None)
        return made


def _kept_up(p: Program, mask: Tensor | None) -> Tensor | None:
    """A mask as the code reads it, in every run of a program."""
    if mask is None:
        return None
    return p.laid(mask if mask.dtype == torch.bool else p.make(torch.ne, mask, 0))


def _counts(mask: Tensor) -> Tensor:
    """A mask as the code reads it: itself where it lies so already."""
    return mask.to(torch.bool).contiguous()


class _OfWords(_Layer):
    """A layer together with the table before it."""

    def __init__(self, kind: Native, words: Words, every: bool, backwards: bool, *weights: Any, keeps: bool = True):
        super().__init__(kind, words.ids, every, backwards, *weights, mask=words.mask, keeps=keeps, words=words)
        self._table = words.table

    def operations(self, p: Program) -> tuple[Tensor, Pull]:
        p.add(self._there)

        def pull(slope: Tensor, wanted: bool) -> None:
            self.call.hold(slopes=p.laid(slope))
            if id(self._table) in p.gradients:
                p.fill(self._table, self._add_back_to(p))
            else:
                self.add_back(p)

        return self.outputs, pull

    def _add_back_to(self, p: Program) -> Callable[[Tensor], None]:
        """The way back as operations, to the slopes of the table too."""

        def add(into: Tensor) -> None:
            self.call.hold(table_slopes=into)
            self.add_back(p)

        return add
