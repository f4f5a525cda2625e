"""The arithmetic floor of a row: its products and convolutions alone, forward and both ways back, in plain torch.

    python tests/benchmarks/floor.py mnist_mlp --rows 60000

Products write into memory that was taken before; convolutions are tried in both layouts, and the faster one counts.
Heap, denormal numbers and threads are set as for a run of ours. The first layer needs no gradient of its input.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from rows import ROWS, Row, steps

from trainer.train.devices import set_threads

Work = Callable[[], None]
GATES = {"lstm": 4, "gru": 3}


def product(batch: int, width: int, units: int, first: bool) -> Work:
    """x @ w, and the gradients of w and x."""
    x, w, g = torch.randn(batch, width), torch.randn(width, units), torch.randn(batch, units)
    out, dw, dx = torch.empty_like(g), torch.empty_like(w), torch.empty_like(x)

    def work() -> None:
        torch.mm(x, w, out=out)
        torch.mm(x.t(), g, out=dw)
        if not first:
            torch.mm(g, w.t(), out=dx)

    return work


def convolution(batch: int, shape: Sequence[int], out: Sequence[int], size: int, first: bool, layout: Any) -> Work:
    """A convolution of pictures (channels, height, width), and the gradients of its kernel and input."""
    x = torch.randn(batch, *shape).to(memory_format=layout)
    w = torch.randn(out[0], shape[0], size, size).to(memory_format=layout)
    g = torch.randn(batch, *out).to(memory_format=layout)
    pad = [(out[1] - shape[1] + size - 1) // 2] * 2
    options = ([1, 1], pad, [1, 1], False, [0, 0], 1)

    def work() -> None:
        torch.ops.aten.convolution(x, w, None, *options)
        torch.ops.aten.convolution_backward(g, x, w, None, *options, [not first, True, False])

    return work


def recurrence(batch: int, steps: int, width: int, units: int, gates: int) -> Work:
    """All inputs @ kernel at once, a product with the state and one for its gradient a step, and the gradients of both
    kernels and of the inputs at once."""
    x, kernel = torch.randn(batch * steps, width), torch.randn(width, gates * units)
    states, recurrent = torch.randn(batch * steps, units), torch.randn(units, gates * units)
    scores, dx = torch.randn(batch * steps, gates * units), torch.empty_like(x)
    dkernel, drecurrent = torch.empty_like(kernel), torch.empty_like(recurrent)
    state, score = states[:batch], scores[:batch]
    new_score, dstate = torch.empty_like(score), torch.empty_like(state)

    def work() -> None:
        torch.mm(x, kernel, out=scores)
        for _ in range(steps):
            torch.mm(state, recurrent, out=new_score)
        for _ in range(steps):
            torch.mm(score, recurrent.t(), out=dstate)
        torch.mm(x.t(), scores, out=dkernel)
        torch.mm(states.t(), scores, out=drecurrent)
        torch.mm(scores, kernel.t(), out=dx)

    return work


def works(row: Row, layout: Any) -> list[Work]:
    """The work of a step, layer by layer."""
    shape: tuple[int, ...] = (row.shape[-1], *row.shape[:-1])
    found: list[Work] = []
    for kind, *options in row.stack:
        if kind == "dense":
            found.append(product(row.batch, shape[0], options[0], not found))
            shape = (options[0],)
        elif kind == "conv":
            filters, size, padding, _ = options
            lost = size - 1 if padding == "valid" else 0
            out = (filters, shape[1] - lost, shape[2] - lost)
            found.append(convolution(row.batch, shape, out, size, not found, layout))
            shape = out
        elif kind == "embedding":
            shape = (*shape, options[1])
        elif kind in GATES:
            found.append(recurrence(row.batch, *shape, options[0], GATES[kind]))
            shape = (options[0],)
        elif kind == "pool":
            shape = (shape[0], shape[1] // 2, shape[2] // 2)
        elif kind == "flatten":
            shape = (shape[0] * shape[1] * shape[2],)
        elif kind not in ("norm", "dropout"):
            raise SystemExit(f"no floor is known for {kind}")
    return found


def seconds(work: Sequence[Work], repeats: int) -> float:
    """Median seconds of a step's work."""
    took = []
    for _ in range(repeats + 2):
        began = time.perf_counter()
        for one in work:
            one()
        took.append(time.perf_counter() - began)
    return statistics.median(took[2:])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=list(ROWS))
    parser.add_argument("--rows", type=int, required=True, help="Training rows, which make the steps of an epoch.")
    parser.add_argument("--repeats", type=int, default=30)
    asked = parser.parse_args()
    row = ROWS[asked.row]
    set_threads(1 << 62)
    layouts = (torch.contiguous_format, torch.channels_last) if len(row.shape) == 3 else (torch.contiguous_format,)
    with torch.inference_mode():
        step = min(seconds(works(row, layout), asked.repeats) for layout in layouts)
    print(json.dumps({"step_us": 1e6 * step, "epoch_ms": 1e3 * step * steps(row, asked.rows)}))


if __name__ == "__main__":
    main()
