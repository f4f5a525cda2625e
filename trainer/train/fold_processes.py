"""Folds of a small model trained by as many processes as there are cores.

A step of a small model keeps one core busy. The run's own process trains the first folds, with its checkpoints; copies
of it (`fork`, a few milliseconds each) train the others meanwhile. A fold has the numbers that it has by itself: it is
the same code.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import IO, Any

import torch

from trainer.runs.packing import pack, unpack
from trainer.switches import cores, on
from trainer.train.log import Line
from trainer.train.loop import Training
from trainer.train.progress import Stopped

STEP = 5e-5
"Seconds that a step of a small model takes, roughly."
WORTHWHILE = 0.3
"Seconds of training beyond the first fold's from which other processes help."
MOST_BYTES, LARGER = 2 << 30, 8
"Bytes that the rows of all processes may take together, and how much larger than what was read rows may become."
LOOK = 0.002
"Seconds between two looks at whether another process is done."
PATIENCE = 5.0
"Seconds that a process has to end by itself."
_DIES_WITH_PARENT = 1
"Linux's PR_SET_PDEATHSIG."


def processes(folds: int, steps: int, raw: int) -> int:
    """How many processes train so many folds, of so many steps together, of a model whose steps are small.

    `raw`: bytes of the rows as they were read, of which each process makes its own.
    """
    able = sys.platform == "linux" and on("folds")
    gains = folds > 1 and (steps - steps / folds) * STEP >= WORTHWHILE
    return min(cores(), folds, max(1, MOST_BYTES // max(1, LARGER * raw))) if able and gains else 1


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

    def as_data(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {**vars(self), "told": [list(line) for line in self.told]}

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> FoldResult:
        """What `as_data` made."""
        return cls(**{**data, "told": [Line(*line) for line in data["told"]]})


class FoldProcesses(AbstractContextManager["FoldProcesses"]):
    """What other processes make of their share of the folds, while this one trains the first of them.

        with FoldProcesses(train, range(4), count, signalled) as others:
            for number in range(4):
                done = others.result(number) or train(number)

    Whoever trains the first fold calls `begin` when all is decided that holds for every fold. The others end with the
    block, or with this process, however it ends.
    """

    def __init__(
        self,
        train: Callable[[int], FoldResult],
        numbers: Sequence[int],
        count: int,
        signalled: Callable[[], int],
    ):
        """`train` makes the result of a fold, in whichever process; with a `count` of 1 there are no others."""
        self._train, self._signalled, self._begun_by = train, signalled, os.getpid()
        least, more = divmod(len(numbers), count)
        ends = [i * least + min(i, more) for i in range(count + 1)]
        self._shares = [tuple(numbers[first:last]) for first, last in pairwise(ends)]
        self._at_work: dict[int, tuple[tuple[int, ...], IO[bytes]]] = {}
        self._results: dict[int, FoldResult] = {}
        self._begun = False

    def begin(self) -> None:
        """Let the others begin, if they have not; a process with threads of its own (a notebook's) is not copied."""
        if self._begun:
            return
        self._begun = True
        if threading.active_count() > 1:
            return
        with suppress(OSError):
            # Where the system refuses, what has no process is trained here.
            for share in self._shares[1:]:
                self._copy(share)

    def __exit__(self, *error: object) -> None:
        for process in self._at_work:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        until = time.monotonic() + PATIENCE
        for process, (_, file) in self._at_work.items():
            while not _ended(process):
                if time.monotonic() > until:
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                time.sleep(LOOK)
            file.close()
        self._at_work.clear()

    def was_shared(self, number: int) -> bool:
        """Whether another process may have begun a fold."""
        return self._begun and any(number in share for share in self._shares[1:])

    def finished(self) -> dict[int, FoldResult]:
        """The results that there are at this moment and that nobody asked for yet."""
        for _, file in self._at_work.values():
            self._results |= _read(file)
        return self._results

    def result(self, number: int) -> FoldResult | None:
        """What another process made of a fold, waited for; None when it is this one's to train.

        Raises:
            Stopped: a signal came meanwhile.
        """
        for process, (share, file) in list(self._at_work.items()):
            if number not in share or number in self._results:
                continue
            while not _ended(process):
                self._heed()
                time.sleep(LOOK)
            del self._at_work[process]
            with file:
                self._results |= _read(file)
        if number not in self._results and self.was_shared(number):
            # One that failed there is tried here, where its error is whole; one that was stopped is not.
            self._heed()
        return self._results.pop(number, None)

    def _heed(self) -> None:
        if self._signalled():
            raise Stopped(self._signalled())

    def _copy(self, share: tuple[int, ...]) -> None:
        """Copy this process, and let the copy train a share of the folds.

        Raises:
            OSError: the system refuses.
        """
        file = tempfile.TemporaryFile()  # noqa: SIM115
        _flush()
        try:
            with warnings.catch_warnings():
                # Newer Pythons warn of torch's threads, which the copy has not and, with one thread a step, does not
                # miss.
                warnings.simplefilter("ignore", DeprecationWarning)
                process = os.fork()
        except OSError:
            file.close()
            raise
        if process:
            self._at_work[process] = share, file
            return
        try:
            ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
            torch.set_num_threads(1)
            for number in share:
                if self.orphaned():
                    break
                text, _ = pack([number, self._train(number).as_data()])
                file.write(f"{text}\n".encode())
                file.flush()
        finally:
            # Nothing of the other process's end is this one's: no files to close, no screen to put in order.
            _flush()
            os._exit(0)

    def orphaned(self) -> bool:
        """Whether this is a copy whose process is gone."""
        return os.getpid() != self._begun_by != os.getppid()


def _ended(process: int) -> bool:
    """Whether a process of this one's is no more."""
    try:
        return bool(os.waitpid(process, os.WNOHANG)[0])
    except ChildProcessError:
        # Nobody's remains are kept where SIGCHLD is ignored.
        return True


def _flush() -> None:
    """Nothing that was printed waits in two processes, or is lost with one."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _read(file: IO[bytes]) -> dict[int, FoldResult]:
    """The results in a file whose place another process may be moving, a line each; half of one does not count."""
    *lines, _ = os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode().split("\n")
    return {number: FoldResult.of_data(data) for number, data in (unpack(line, {}) for line in lines)}
