"""One writer a run."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType

from trainer.errors import RunError
from trainer.runs.files import fault, sweep

_held: set[int] = set()
"Open lock files of this process."


def _let_go() -> None:
    """A copy of this process (`fork`) holds nothing: it may outlive it by a moment."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)


class RunLock:
    """Holds a run directory for this process, until the block ends or the process does, however it ends.

        with RunLock(directory): ...

    Raises:
        RunError: another writer holds it (at once; the message names its process).
        EnvironmentFault: the lock file can't be made.
    """

    def __init__(self, directory: Path):
        self.directory = Path(directory)
        self._handle: int | None = None

    def __enter__(self) -> RunLock:
        path = self.directory / ".lock"
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise fault(error, path) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
            os.close(handle)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise self._held(holder) from None
            raise fault(error, path, "lock") from error
        self._handle = handle
        _held.add(handle)
        sweep(self.directory)
        return self

    def _held(self, holder: str) -> RunError:
        who = f"process {holder}" if holder.isdigit() else "another process"
        hint = "wait until it ends, or start a run of its own"
        return RunError(f"{who} is writing the run {self.directory}", hint=hint, code="locked")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        # The file stays: removing it would let a third process lock another file of the same name.
        if self._handle is not None:
            _held.discard(self._handle)
            os.close(self._handle)
            self._handle = None


def is_held(directory: Path) -> bool:
    """Whether a process is writing the run at this moment."""
    try:
        handle = os.open(Path(directory) / ".lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
