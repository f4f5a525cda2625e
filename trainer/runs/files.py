"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import EnvironmentFault
from trainer.folders import make_inside

if TYPE_CHECKING:
    from trainer.runs.image import Image

    Data = bytes | Image
    """What a file is to hold: bytes, or an image that comes in pieces."""

_TEMPORARY = ".tmp"

_FREE = "free some space, or keep runs on another disk (`--runs DIR`)"
_RIGHTS = "choose a folder that you may write to (`--runs DIR`)"
_HINTS = {
    errno.ENOSPC: _FREE,
    errno.EDQUOT: _FREE,
    errno.EFBIG: "the limit on the size of a file is too low (`ulimit -f`)",
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENOENT: "the folder was moved or removed; nothing else may do so while a run is on",
    errno.EIO: "the disk reports an error: copy what matters to another disk",
    errno.EMFILE: "too many files are open (`ulimit -n`)",
}
# Directories of some file systems can't be synced; their renames are then as safe as they get.
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}


def pieces(data: Data) -> Iterable[bytes | memoryview]:
    """What a file is to hold, piece by piece."""
    return (data,) if isinstance(data, bytes) else data


def sha256(data: Data) -> str:
    """The digest in hexadecimal."""
    made = hashlib.sha256()
    for piece in pieces(data):
        made.update(piece)
    return made.hexdigest()


def fault(error: OSError, path: Path, doing: str = "write") -> EnvironmentFault:
    """What the system refused, as an error that names the path and what to do."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    hint = _HINTS.get(error.errno or 0, "look at the disk and at the rights of the folder")
    return EnvironmentFault(
        f"can't {doing} {path}: {reason}", hint=hint, code=errno.errorcode.get(error.errno or 0, "")
    )


def write_atomic(path: Path, data: Data) -> None:
    """Make `path` hold `data`, through a crash or a loss of power too: afterwards it is the old file or the new one.

    Raises:
        EnvironmentFault: the system refuses; the earlier file is as it was and nothing else is left.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_TEMPORARY}")
    try:
        _write_synced(temporary, data)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise fault(error, path) from error
        raise
    try:
        sync_directory(path.parent)
    except OSError as error:
        raise fault(error, path.parent, "make the change last in") from error


def _write_synced(path: Path, data: Data) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        for piece in pieces(data):
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_directory(path: Path) -> None:
    """Make renames in a directory last through a loss of power."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)


def make_directory(path: Path) -> None:
    """Make a directory and its parents, if they are not there.

    Raises:
        EnvironmentFault: the system refuses.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise fault(error, path, "make the folder") from error


def make_directory_in(home: Path, path: Path) -> None:
    """Make a directory under `home`, which must be there.

    Raises:
        EnvironmentFault: the system refuses, or `home` is gone.
    """
    try:
        make_inside(home, path)
    except OSError as error:
        raise fault(error, path, "make the folder") from error


def sweep(directory: Path) -> None:
    """Remove the temporary files that a killed writer left; only for whoever is the directory's one writer."""
    for leftover in directory.rglob(f".*{_TEMPORARY}"):
        with contextlib.suppress(OSError):
            leftover.unlink()
