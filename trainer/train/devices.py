"""Where and with how many threads a run computes."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from trainer.errors import EnvironmentFault
from trainer.layers.base import Layer
from trainer.layers.graph import Graph
from trainer.layers.plan import Plan
from trainer.shapes import size
from trainer.switches import cores, on

SMALL_STEP = 2_000_000
"Multiply-adds a step below which a second thread costs more than it brings."


def step_work(graph: Graph, batch_size: int, *, moves: bool = True) -> int:
    """Multiply-adds of a forward step, roughly: each weight once for every position that it is used at.

    A table that vectors are looked up in counts once a step, if that moves it.
    """
    by_row = once = 0
    for call in graph.calls:
        layer, plan = graph.layers[call.layer], graph.plans[call.layer]
        used, looked_up = _numbers(layer, plan)
        # What is inside a layer that gives its last step alone, or holds other layers, may see all that comes in.
        seen = call.inputs if layer.more_inside or plan.children else ()
        by_row += used * max(_positions(graph.shapes[n]) for n in (call.output, *seen))
        once += looked_up
    return by_row * batch_size + once * moves


def _numbers(layer: Layer, plan: Plan) -> tuple[int, int]:
    """(of a layer's weights and of those that it holds, of tables among them)."""
    own = sum(size(w.shape) or 0 for w in plan.weights)
    found = [(0, own) if layer.looks_up else (own, 0), *(_numbers(*inner) for inner in plan.children.values())]
    return sum(used for used, _ in found), sum(table for _, table in found)


def _positions(shape: Any) -> int:
    """Of a tensor, or of the first of several: what lies between its rows and its features."""
    return size(n or 1 for n in (shape[0] if isinstance(shape, list) else shape)[1:-1]) or 1


def choose_device(asked: str = "auto") -> torch.device:
    """The device that was asked for; `auto` takes a GPU when there is one. The processor is made ready, too.

    Raises:
        EnvironmentFault: no such device here.
    """
    find_vector_functions()
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if asked.startswith("cuda") and not torch.cuda.is_available():
        raise EnvironmentFault(f"there is no GPU for --device {asked}", hint="--device cpu")
    return torch.device(asked)


def find_vector_functions() -> None:
    """Let MKL choose its vector functions (roots, tanh, erf and others) while one thread alone asks for them.

    It does so at the first call of any. Where several threads share that call, one of them may compute its part by
    functions of half as many digits: roots that are wrong by 3e-4, in one run of several.
    """
    torch.ones(1).sqrt_()


HEAP_KEPT = 2**30
"Bytes of freed memory that stay with the process instead of going back to the system."


def keep_heap() -> bool:
    """Let glibc keep and reuse large blocks, which it hands back after every step otherwise, to be faulted in again.

    Returns whether it took effect; other C libraries are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    trim_threshold, mmap_threshold = -1, -3
    if mallopt is None:
        return False
    # Some versions take no threshold above 32 MB.
    kept = any(mallopt(mmap_threshold, size) for size in (HEAP_KEPT, 2**25))
    return kept and bool(mallopt(trim_threshold, HEAP_KEPT))


def return_heap() -> None:
    """Hand freed memory back to the system: reading published files leaves up to 100 MB that nobody needs."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:
        trim(0)


@contextmanager
def settings_kept() -> Iterator[None]:
    """Put torch's number of threads and its treatment of denormal numbers back at the end."""
    threads, keeps_denormals = torch.get_num_threads(), bool(torch.full((1,), 1e-39).mul_(1.0).item())
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(not keeps_denormals)


def threads_for(work: int, kept: int | None = None) -> int:
    """Threads for a step of `work` multiply-adds: one for small steps, all cores otherwise.

    The number changes the order of sums, so a resumed run uses the one that it began with (`kept`).
    """
    return kept or (1 if work < SMALL_STEP and on("threads") else cores())


def set_threads(work: int, kept: int | None = None) -> int:
    """Let torch have the threads for a step (`threads_for`), which are returned, and set what else makes steps fast."""
    threads = threads_for(work, kept)
    if on("heap"):
        keep_heap()
    # Numbers below 1e-38 slow recurrent layers down five times and mean nothing; set before threads start.
    torch.set_flush_denormal(on("denormals"))
    torch.set_num_threads(threads)
    return threads
