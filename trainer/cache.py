"""Where files stand that can be had again: downloaded data sets, compiled steps, layouts of model files."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

DIGEST = 32
"Bytes of the checksum behind a file."


def cache_folder(name: str) -> Path:
    """A folder of ours in the user's cache (`XDG_CACHE_HOME`, or else `~/.cache`)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trainer" / name


@dataclass(frozen=True)
class Kept:
    """Small files of one kind in the user's cache; only what this user alone could have written is used."""

    folder: str
    ending: str
    most: int
    "Of more files than that the longest unused go."

    def path(self, key: str) -> Path:
        """Where the file of that key stands."""
        return cache_folder(self.folder) / f"{key}{self.ending}"

    def find(self, key: str) -> bytes | None:
        """The content of that key, which its file begins with; None where there is none, whole as it was written."""
        try:
            path = self.path(key)
            if not _ours_alone(path.parent) or not _ours_alone(path):
                return None
            data = path.read_bytes()
            if hashlib.sha256(data[:-DIGEST]).digest() != data[-DIGEST:]:
                return None
            os.utime(path)
        except (OSError, RuntimeError):  # no home folder is a RuntimeError
            return None
        return data[:-DIGEST]

    def keep(self, key: str, data: bytes) -> None:
        """Keep a content; where that can't be, it is made again the next time."""
        with suppress(OSError, RuntimeError):
            path = self.path(key)
            part = path.with_suffix(f".{os.getpid()}")
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                part.write_bytes(data + hashlib.sha256(data).digest())
                part.chmod(0o600)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
            for old in sorted(path.parent.iterdir(), key=lambda file: -file.stat().st_mtime)[self.most :]:
                old.unlink(missing_ok=True)


def key_of(*parts: str | bytes) -> str:
    """A name for what is made of these."""
    made = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode()
        made.update(b"%d:" % len(data))
        made.update(data)
    return made.hexdigest()


def _ours_alone(path: Path) -> bool:
    """Whether nobody else may write there."""
    if os.name != "posix":
        return True
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & 0o022
