"""Folds of a small model trained by as many processes as there are cores.

A step of a small model keeps one core busy. The run's own process trains the first folds, with its checkpoints; copies
of it (`fork`, a few milliseconds each) train the others meanwhile. A fold has the numbers that it has by itself: it is
the same code.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import IO

import torch

from trainer.switches import cores, on
from trainer.train.log import Line
from trainer.train.loop import Training
from trainer.train.progress import Stopped

STEP = 5e-5
"Seconds that a step of a small model takes, roughly."
WORTHWHILE = 0.3
"Seconds of training beyond the first fold's from which other processes help."
LOOK = 0.002
"Seconds between two looks at whether another process is done."
PATIENCE = 5.0
"Seconds that a process has to end by itself."
_DIES_WITH_PARENT = 1
"Linux's PR_SET_PDEATHSIG."


def processes(folds: int, steps: int) -> int:
    """How many processes train so many folds, of so many steps together, of a model whose steps are small.

    A process with threads of its own (a notebook's, a server's) is not copied.
    """
    able = sys.platform == "linux" and on("folds") and threading.active_count() == 1
    gains = folds > 1 and (steps - steps / folds) * STEP >= WORTHWHILE
    return min(cores(), folds) if able and gains else 1


@dataclass(frozen=True)
class FoldResult:
    """What the training of a fold came to."""

    history: dict[str, list[float]]
    epochs: list[int]
    "Numbers (from 0) of the epochs in it."
    values: dict[str, float]
    "Loss and metrics of the rows that were left out."
    seconds: float
    told: Sequence[Line] = ()
    "What another process has to say of it."

    @classmethod
    def of(cls, training: Training) -> FoldResult:
        """Of a training that has come to its end."""
        seconds = round(sum(training.epoch_seconds), 6)
        return cls(training.history, training.history_epochs, training.validate(), seconds)


class FoldProcesses(AbstractContextManager["FoldProcesses"]):
    """What other processes make of their share of the folds, while this one trains the first of them.

        with FoldProcesses(train, range(4), count) as others:
            for number in range(4):
                done = others.result(number, signalled) or train(number)

    They end with the block, or with this process, however it ends.
    """

    def __init__(self, train: Callable[[int], FoldResult], numbers: range, count: int):
        """`train` makes the result of a fold, in whichever process; with a `count` of 1 there are no others."""
        self._train, self._begun_by = train, os.getpid()
        least, more = divmod(len(numbers), count)
        ends = [numbers.start + i * least + min(i, more) for i in range(count + 1)]
        self._shares = [range(first, last) for first, last in pairwise(ends)]
        self._at_work: dict[int, tuple[range, IO[bytes]]] = {}
        self._results: dict[int, FoldResult] = {}

    def __enter__(self) -> FoldProcesses:
        for share in self._shares[1:]:
            self._begin(share)
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._at_work:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        until = time.monotonic() + PATIENCE
        for process, (_, file) in self._at_work.items():
            while not os.waitpid(process, os.WNOHANG)[0]:
                if time.monotonic() > until:
                    os.kill(process, signal.SIGKILL)
                time.sleep(LOOK)
            file.close()
        self._at_work.clear()

    def result(self, number: int, signalled: Callable[[], int]) -> FoldResult | None:
        """What another process made of a fold, waited for; None when it is this one's to train.

        Raises:
            Stopped: a signal came meanwhile.
        """
        for process, (share, file) in list(self._at_work.items()):
            if number not in share:
                continue
            while not os.waitpid(process, os.WNOHANG)[0]:
                if signalled():
                    raise Stopped(signalled())
                time.sleep(LOOK)
            del self._at_work[process]
            self._results |= _read(file)
        # One that failed there is tried here, where its error is whole.
        return self._results.pop(number, None)

    def _begin(self, share: range) -> None:
        """Copy this process, and let the copy train a share of the folds."""
        file = tempfile.TemporaryFile()  # noqa: SIM115
        with warnings.catch_warnings():
            # Newer Pythons warn of torch's threads, which the copy has not and, with one thread a step, does not miss.
            warnings.simplefilter("ignore", DeprecationWarning)
            process = os.fork()
        if process:
            self._at_work[process] = share, file
            return
        try:
            ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
            if os.getppid() == self._begun_by:
                torch.set_num_threads(1)
                for number in share:
                    pickle.dump((number, self._train(number)), file)
                    file.flush()
        finally:
            # Nothing of the other process's end is this one's: no files to close, no screen to put in order.
            os._exit(0)


def _read(file: IO[bytes]) -> dict[int, FoldResult]:
    """The results in a file; the last may be half of one."""
    found: dict[int, FoldResult] = {}
    with file, suppress(EOFError, pickle.UnpicklingError):
        file.seek(0)
        while True:
            number, result = pickle.load(file)
            found[number] = result
    return found
