"""Where and with how many threads a run computes."""

from __future__ import annotations

import os

import torch

from trainer.errors import EnvironmentFault

SMALL_STEP = 2_000_000
"Multiply-adds a step below which a second thread costs more than it brings."


def choose_device(asked: str = "auto") -> torch.device:
    """The device that was asked for; `auto` takes a GPU when there is one.

    Raises:
        EnvironmentFault: no such device here.
    """
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if asked.startswith("cuda") and not torch.cuda.is_available():
        raise EnvironmentFault(f"there is no GPU for --device {asked}", hint="--device cpu")
    return torch.device(asked)


def set_threads(work: int, kept: int | None = None) -> int:
    """Threads for a step of `work` multiply-adds: one for small steps, all cores otherwise.

    The number changes the order of sums, so a resumed run uses the one that it began with (`kept`).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = kept or (1 if work < SMALL_STEP else cores)
    # Numbers below 1e-38 slow recurrent layers down five times and mean nothing; set before threads start.
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    return threads
