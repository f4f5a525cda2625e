"""Where the time of training goes: a clock that is always in exactly one part, so that the parts make up the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

PARTS = {
    "data": "batches: rows put into order, preprocessing that draws, copies to where the step computes",
    "building": "the operations of a step are laid out, once for each shape of batch",
    "compiled": "calls of compiled steps, whose parts are counted below; those recorded on a GPU as a whole",
    "forward": "layers",
    "loss": "losses, penalties and their gradients",
    "backward": "gradients of layers",
    "update": "the optimizer",
    "metrics": "running sums of losses and metrics",
    "callbacks": "callbacks, with what they write",
    "checkpoint": "checkpoints from which a run goes on",
    "progress": "what is shown while training",
    "validation": "loss and metrics on the validation rows",
    "loop": "everything else between the steps",
    "measuring": "this profile's own work",
}
"Every part, with what it holds."


class Spent:
    """Time that one part has taken so far."""

    __slots__ = ("seconds", "times")

    def __init__(self) -> None:
        self.seconds, self.times = 0.0, 0


@dataclass(frozen=True)
class Facts:
    """What advice must know of a training beside its times."""

    batch_size: int = 32
    autograd_since: str = ""
    "Why gradients are left to autograd; empty when they are not."
    dtype: str = "float32"
    "What the model computes in."
    device: str = "cpu"
    drawn: tuple[str, ...] = ()
    "Inputs whose preprocessing draws anew for each batch."
    watches: tuple[str, ...] = ()
    "Callbacks that look at every batch."
    saves_all: bool = False
    "Whether a ModelCheckpoint writes all of the model after every epoch."
    validation_rows: int = 0
    validation_batch_size: int = 32
    "Rows that are judged at a time."
    validation_freq: int = 1
    compiled: bool = False
    "Whether steps are compiled code."
    tiled: tuple[str, ...] = ()
    "Paths of layers whose products the processor could make by tiles of bfloat16."


@dataclass
class Profile:
    """Times of all trainings of a run, by part and by what is at work in it."""

    spent: dict[tuple[str, str], Spent] = field(default_factory=dict)
    "By part, and in it by layer or callback."
    steps: int = 0
    autograd_steps: int = 0
    "Steps whose gradient autograd found."
    rows: int = 0
    facts: Facts = Facts()

    def __post_init__(self) -> None:
        self._loop = self._current = self.of("loop")
        self._last, self.held = 0.0, True
        "Held: training is not under way, or a part that nothing interrupts is."
        self._wait: Callable[[], Any] | None = None

    def of(self, part: str, of: str = "") -> Spent:
        """The time of a part, or of a layer or a callback in it."""
        return self.spent.setdefault((part, of), Spent())

    def to(self, spent: Spent) -> None:
        """From now on the time is that of `spent`; it is not while a part that nothing interrupts is under way."""
        if self.held:
            return
        if self._wait is not None:
            self._wait()
        now = perf_counter()
        self._current.seconds += now - self._last
        self._current.times += 1
        self._current, self._last = spent, now

    def claim(self, spent: Spent) -> None:
        """What has passed since the last change was that of `spent`, as is what passes until the next one."""
        if not self.held:
            self._current = spent

    @contextmanager
    def running(self, wait: Callable[[], Any] | None = None) -> Iterator[None]:
        """Training goes on inside; `wait` lets a device finish what it was given."""
        self._wait = wait
        if wait is not None:
            wait()
        self._last, self.held, self._current = perf_counter(), False, self._loop
        try:
            yield
        finally:
            self.held = False
            self.to(self._loop)
            self.held = True

    def during(self, spent: Spent, function: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        """`function(*args, **options)`, all of whose time is that of `spent`, whatever it calls."""
        if self.held:
            return function(*args, **options)
        before = self._current
        self.to(spent)
        self.held = True
        try:
            return function(*args, **options)
        finally:
            self.held = False
            self.to(before)

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time counted to a part."""
        return partial(self.during, self.of(part), function)

    def figures(self) -> Figures:
        """What the times come to, with the clock's own time taken out of each part."""
        cost = 0.0 if self._wait else clock_cost()
        parts, layers, callbacks = dict.fromkeys(PARTS, 0.0), {}, {}
        for (part, of), spent in self.spent.items():
            own = min(spent.seconds, spent.times * cost) if part != "measuring" else 0.0
            parts[part] += spent.seconds - own
            parts["measuring"] += own
            if part == "callbacks":
                callbacks[of] = spent.seconds - own
            elif of:
                layers.setdefault(of, {"forward": 0.0, "backward": 0.0})[part] += spent.seconds - own
        judged = self.of("validation").times
        return Figures(self.steps, self.autograd_steps, self.rows, parts, layers, callbacks, self.facts, judged)


def clock_cost(rounds: int = 20, changes: int = 100) -> float:
    """Seconds that a change from part to part takes, in the quickest round: others may be at work on the machine."""
    found = []
    for _ in range(rounds):
        profile = Profile()
        spent = profile.of("forward")
        with profile.running():
            for _ in range(changes):
                profile.to(spent)
        found.append(spent.seconds / spent.times)
    return min(found)


@dataclass(frozen=True)
class Figures:
    """What a profile came to, in seconds."""

    steps: int
    autograd_steps: int
    rows: int
    parts: Mapping[str, float]
    layers: Mapping[str, Mapping[str, float]]
    "Forward and backward, by path of the layer."
    callbacks: Mapping[str, float]
    facts: Facts = Facts()
    validations: int = 0
    "How often the validation rows were judged."

    @property
    def seconds(self) -> float:
        """All of training."""
        return sum(self.parts.values())

    def share(self, *parts: str) -> float:
        """What some parts take of the whole, from 0 to 1."""
        return sum(self.parts[part] for part in parts) / (self.seconds or 1.0)

    def microseconds(self, seconds: float) -> float:
        """Time a step."""
        return seconds * 1e6 / max(self.steps, 1)

    def as_data(self) -> dict[str, Any]:
        """Everything as JSON has it."""
        whole = self.seconds or 1.0

        def said(seconds: float) -> dict[str, float]:
            each = {"seconds": seconds, "share": seconds / whole, "microseconds_a_step": self.microseconds(seconds)}
            return {name: round(value, 9) for name, value in each.items()}

        return {
            "seconds": round(self.seconds, 9),
            "steps": self.steps,
            "rows": self.rows,
            "autograd_steps": self.autograd_steps,
            "autograd_since": self.facts.autograd_since,
            "steps_a_second": round(self.steps / whole, 3),
            "rows_a_second": round(self.rows / whole, 3),
            "parts": {part: said(seconds) for part, seconds in self.parts.items()},
            "layers": {path: {way: said(s) for way, s in ways.items()} for path, ways in self.layers.items()},
            "callbacks": {name: said(seconds) for name, seconds in self.callbacks.items()},
        }
