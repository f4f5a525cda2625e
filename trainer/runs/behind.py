"""Small files written while the training goes on: a disk takes longer to confirm them than an epoch may last."""

from __future__ import annotations

import threading
from pathlib import Path

from trainer.runs.files import write_atomic

SMALL = 1 << 20
"Bytes up to which a file is copied, so that the training can go on while it is written."


class Behind:
    """A thread that writes files, one after the other, each whole or not at all.

    One file is waited with at most, and it is left out where the same one comes anew before its turn: the later one
    would have taken its place.
    """

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._next: tuple[Path, bytes] | None = None
        self._busy = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def write(self, path: Path, data: bytes) -> None:
        """Have `path` hold `data` soon.

        Raises:
            EnvironmentFault: an earlier file could not be written; its error is raised once.
        """
        with self._turn:
            self._turn.wait_for(lambda: self._next is None or self._next[0] == path)
            self._raise()
            self._next = path, data
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="behind", daemon=True)
                self._thread.start()
            self._turn.notify_all()

    def wait(self) -> None:
        """Until everything is written.

        Raises:
            EnvironmentFault: a file could not be; its error is raised once.
        """
        with self._turn:
            self._turn.wait_for(lambda: self._next is None and not self._busy)
            self._raise()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self) -> None:
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._next is not None)
                assert self._next is not None
                (path, data), self._next, self._busy = self._next, None, True
                self._turn.notify_all()
            try:
                write_atomic(path, data)
            except BaseException as error:
                self._error = error
            with self._turn:
                self._busy = False
                self._turn.notify_all()
