"""Checkpoints of a run: each whole or absent, the one before kept until the next is committed.

A checkpoint is a file and a commit record with its size and sha256. The record is written last; the one that it
replaces becomes `commit-before.json`, so that a damaged newest checkpoint leaves the one before to go on from.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import RunError
from trainer.runs.files import fault, make_directory_in, sha256, write_atomic

if TYPE_CHECKING:
    from trainer.runs.files import Data

COMMIT = "commit.json"
BEFORE = "commit-before.json"
_FILE = re.compile(r"last-(\d{1,12})\.h5")


@dataclass(frozen=True)
class Commit:
    """What a commit record says."""

    file: str
    size: int
    sha256: str
    epoch: int
    batch: int

    @classmethod
    def read(cls, path: Path) -> Commit:
        """The record.

        Raises:
            ValueError: it is not one; the message says why.
        """
        try:
            found = json.loads(path.read_bytes())
        except RecursionError:
            raise ValueError("nested too deeply") from None
        kinds = {"file": str, "size": int, "sha256": str, "epoch": int, "batch": int}
        if not isinstance(found, dict) or {k: type(v) for k, v in found.items()} != kinds:
            raise ValueError(f"expected {', '.join(kinds)}")
        if not _FILE.fullmatch(found["file"]):
            raise ValueError(f"{found['file']!r} is not the name of a checkpoint")
        return cls(**found)

    def load(self, folder: Path) -> bytes:
        """The checkpoint's bytes, exactly as they were written.

        Raises:
            ValueError: they are no longer; the message says what is different.
        """
        data = (folder / self.file).read_bytes()
        if len(data) != self.size:
            raise ValueError(f"expected {self.size} bytes, found {len(data)}")
        if sha256(data) != self.sha256:
            raise ValueError("its bytes were changed after they were written (the sha256 differs)")
        return data


class Checkpoints:
    """The folder `checkpoints` of a run."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._sure = False

    def save(self, data: Data, epoch: int, batch: int) -> None:
        """Write a checkpoint and commit it; afterwards it and the one before are kept.

        Raises:
            EnvironmentFault: the system refuses, or the run is gone; the last committed checkpoint stays.
        """
        make_directory_in(self.folder.parent, self.folder)
        number = 1 + max((int(m[1]) for m in self._numbered()), default=0)
        record = Commit(f"last-{number}.h5", len(data), sha256(data), epoch, batch)
        try:
            write_atomic(self.folder / record.file, data)
            self._demote()
            write_atomic(self.folder / COMMIT, json.dumps(asdict(record), indent=2).encode())
        except BaseException:
            self._sure = False
            raise
        self._sure = True
        self._keep_two()

    def _numbered(self) -> list[re.Match[str]]:
        return [found for path in self.folder.iterdir() if (found := _FILE.fullmatch(path.name))]

    def _demote(self) -> None:
        """The last record becomes the one before, unless what it names is damaged: then the one before stays."""
        commit = self.folder / COMMIT
        try:
            if not self._sure:
                Commit.read(commit).load(self.folder)
            os.replace(commit, self.folder / BEFORE)
        except FileNotFoundError:
            return
        except ValueError:
            return
        except OSError as error:
            raise fault(error, commit) from error

    def _keep_two(self) -> None:
        kept = set()
        for name in (COMMIT, BEFORE):
            with contextlib.suppress(OSError, ValueError):
                kept.add(Commit.read(self.folder / name).file)
        for found in self._numbered():
            if found[0] not in kept:
                with contextlib.suppress(OSError):
                    (self.folder / found[0]).unlink()

    def load(self) -> tuple[bytes | None, str]:
        """(the last whole checkpoint or None when none was ever committed, a warning or nothing).

        Raises:
            RunError: checkpoints were committed and none of them is whole.
        """
        wrong: list[str] = []
        for name in (COMMIT, BEFORE):
            path, what = self.folder / name, f"the record {name}"
            if not path.exists():
                continue
            try:
                record = Commit.read(path)
                what = f"the checkpoint {record.file} (epoch {record.epoch}, batch {record.batch})"
                data = record.load(self.folder)
            except (OSError, ValueError) as error:
                wrong.append(f"{what} is damaged: {error}")
                continue
            going_on = f"; going on from epoch {record.epoch}, batch {record.batch}" if wrong else ""
            return data, "; ".join(wrong) + going_on
        if wrong:
            hint = "start the run again; `model.h5`, if it is there, holds the best or last weights"
            raise RunError(f"no checkpoint of the run is whole: {'; '.join(wrong)}", hint=hint)
        return None, ""
