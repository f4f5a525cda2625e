"""The processors at hand, and optimisations that can be switched off by name, to be compared with what they replace.

`TRAINER_WITHOUT=lists,heap trainer fit …` runs without those two. The figures stay the same but for rounding; the
benchmark's table of ablations is made so.
"""

from __future__ import annotations

import os

from trainer.errors import RecipeError, nearest

VARIABLE = "TRAINER_WITHOUT"
SWITCHES = {
    "start": "torch's library bound while the recipe is read, and its parts for tracing left out",
    "crowd": "threads that give way where other programs compute",
    "denormals": "numbers below 1e-38 count as 0",
    "heap": "freed memory stays with the process",
    "threads": "one thread for small steps",
    "hand": "steps without autograd",
    "compiled": "steps, or layers in them, as compiled code",
    "tiles": "products of bfloat16 by tiles of the processor",
    "recorded": "steps on a GPU recorded as a graph of kernels",
    "lookup": "what an embedding's vectors give a recurrent layer made once for each word of a batch",
    "padding": "steps that sequences are filled up with computed once for many rows, masked ones not at all",
    "sums": "loss and metrics added up many batches at a time",
    "behind": "small models that callbacks save written while the training goes on",
    "folds": "folds of small models trained by several processes",
    "together": "folds of small models trained side by side, in one process",
    "seeds": "seeds of small models trained by several processes",
    "draughtsman": "pictures drawn by a process that gets ready during training",
    "onednn": "large products by oneDNN on processors that MKL is slow on",
    "evaluation": "rows judged and predicted many at a time",
    "lists": "multi-hot rows kept as lists of ids",
}
"Name to what happens with it."


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on(name: str) -> bool:
    """Whether an optimisation is in use.

    Raises:
        RecipeError: the variable names one that there is not.
    """
    asked = [part.strip() for part in os.environ.get(VARIABLE, "").split(",") if part.strip()]
    for other in asked:
        if other not in SWITCHES:
            hint = nearest(other, SWITCHES) or f"there are {', '.join(SWITCHES)}"
            raise RecipeError(f'{VARIABLE}: there is no optimisation called "{other}"', hint=hint)
    return name not in asked
