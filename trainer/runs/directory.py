"""Run directories: `runs/<name>/<yyyymmdd-hhmmss>-<4 hex>/`, the newest of a name in `runs/<name>/latest`."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import RunError, nearest
from trainer.runs.behind import SMALL, Behind
from trainer.runs.checkpoints import Checkpoints
from trainer.runs.files import fault, make_directory, make_directory_in, write_atomic
from trainer.switches import on

if TYPE_CHECKING:
    from trainer.runs.files import Data

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
STAMP = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")
LATEST = "latest"
RECORD = "run.json"
"The file that makes a folder a run; a folder without it is what was left of one."
NEW = "new"
"State of a run whose data were not read yet."


class RunDirectory:
    """One run's folder; every file in it is written whole or not at all.

    Only `create` makes the folder itself: what is written late into a run that was removed does not bring it back.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.checkpoints = Checkpoints(self.path / "checkpoints")
        self._behind = Behind()

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    @property
    def label(self) -> str:
        """`name/stamp`, as the list of runs shows it."""
        return f"{self.path.parent.name}/{self.path.name}"

    @classmethod
    def create(cls, runs_root: Path, name: str) -> RunDirectory:
        """A new directory, named in `latest`; its `run.json` says `new`, and there is no moment without one.

        Raises:
            RunError: the name can't be one.
            EnvironmentFault: the system refuses.
        """
        if not NAME.fullmatch(name) or name == LATEST:
            hint = "letters, digits, '.', '_' and '-', 1 to 64 of them, beginning with a letter or digit"
            raise RunError(f"expected a name for a run, found {name!r}", hint=hint)
        folder = Path(runs_root) / name
        unnamed = folder / f".{secrets.token_hex(8)}.new"
        make_directory(unnamed)
        write_atomic(unnamed / RECORD, _text({"name": name, "state": NEW}))
        while True:
            path = folder / stamp(datetime.now())
            try:
                os.rename(unnamed, path)
                break
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise fault(error, path, "make the folder") from error
                # Another process began a run in the same fifteen microseconds.
        write_atomic(folder / LATEST, f"{path.name}\n".encode())
        return cls(path)

    @classmethod
    def find(cls, runs_root: Path, what: str | Path) -> RunDirectory:
        """The run that `what` means: `last`, a NAME (its newest run), `NAME/STAMP`, or a path.

        Raises:
            RunError: there is none (the hint has the nearest name), or the folder has no record.
        """
        root, words = Path(runs_root), str(what)
        if words == "last":
            found = list_runs(root)
            if found:
                return found[-1]
            raise RunError(f"there is no run in {root} yet", hint="`trainer fit RECIPE` makes one")
        for path in (root / words, Path(what)):
            run = _run_at(path)
            if run is not None:
                return run
        names = run_names(root)
        hint = nearest(words, names) or (f"there are: {', '.join(names[:10])}" if names else "no run was made yet")
        raise RunError(f"there is no run {words!r} in {root}", hint=hint, code="unknown-run")

    @classmethod
    def find_usable(cls, runs_root: Path, what: str | Path) -> RunDirectory:
        """The run that `what` means, or for a name or `last` the newest one with a model, where the newest has none.

        Raises:
            RunError: there is none; the hint has the nearest name.
        """
        found = cls.find(runs_root, what)
        if found.has_model() or _names_one(Path(runs_root), what):
            return found
        runs = list_runs(Path(runs_root), None if str(what) == "last" else found.path.parent.name)
        return next((run for run in reversed(runs) if run.has_model()), found)

    def has_model(self) -> bool:
        """Whether the run has come to a model."""
        return (self.path / "model.h5").is_file()

    def write(self, name: str, data: Data) -> None:
        """Write a file under the directory, given by its relative path.

        Raises:
            RunError: the path leads out of the directory.
            EnvironmentFault: the system refuses, or the run was moved or removed.
        """
        path = self._inside(name)
        self._make(path.parent)
        self.settle()
        write_atomic(path, data)

    def write_soon(self, name: str, data: Data) -> None:
        """The same, but a small file may be there only when the next `write`, `save_checkpoint` or `settle` is done.

        It is left out where the same one follows before its turn to be written.

        Raises:
            RunError: the path leads out of the directory.
            EnvironmentFault: the system refuses, or refused an earlier file of this kind; or the run is gone.
        """
        if len(data) > SMALL or not on("behind"):
            self.write(name, data)
            return
        path = self._inside(name)
        self._make(path.parent)
        self._behind.write(path, bytes(data))

    def settle(self) -> None:
        """Wait until all that was to be written soon is there.

        Raises:
            EnvironmentFault: the system refused.
        """
        self._behind.wait()

    def folder(self, name: str) -> Path:
        """A folder under the directory, given by its relative path; made if it is not there.

        Raises:
            RunError: the path leads out of the directory.
            EnvironmentFault: the system refuses, or the run was moved or removed.
        """
        path = self._inside(name)
        # A file would take the place of a link; a folder would be entered through it.
        self._inside(f"{name}/any")
        self._make(path)
        return path

    def _inside(self, name: str) -> Path:
        path, home = self.path / name, os.path.realpath(self.path)
        folder = os.path.realpath(path.parent)
        within = folder == home or folder.startswith(f"{home}{os.sep}")
        if not name or not within or path.name == ".." or os.path.realpath(path) == home:
            raise RunError(f"expected a path within the run directory, found {name!r}")
        return path

    def _make(self, folder: Path) -> None:
        self._refuse_remains()
        make_directory_in(self.path, folder)

    def _refuse_remains(self) -> None:
        path = self.path / RECORD
        try:
            os.stat(path)
        except OSError as error:
            raise fault(error, path, "find") from error

    def record(self) -> dict[str, Any]:
        """What `run.json` holds.

        Raises:
            RunError: it is missing or damaged.
        """
        path = self.path / RECORD
        try:
            found = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise _no_run(self.path) from None
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{path} can't be read: {error}") from None
        if not isinstance(found, dict):
            raise RunError(f"{path}: expected a JSON object, found {type(found).__name__}")
        return found

    def write_record(self, record: dict[str, Any]) -> None:
        """Replace `run.json`."""
        self.write(RECORD, _text(record))

    def save_checkpoint(self, data: Data, epoch: int, batch: int) -> None:
        """Write and commit a checkpoint (see `Checkpoints.save`)."""
        self._refuse_remains()
        self.settle()
        self.checkpoints.save(data, epoch, batch)

    def load_checkpoint(self) -> tuple[bytes | None, str]:
        """The last whole checkpoint and a warning (see `Checkpoints.load`)."""
        return self.checkpoints.load()


def stamp(now: datetime) -> str:
    """`20260131-120000-8000`: the second, and how far into it in 65,536ths, so that names sort by time."""
    return f"{now:%Y%m%d-%H%M%S}-{now.microsecond * 65536 // 1_000_000:04x}"


def run_names(runs_root: Path) -> list[str]:
    """The names that have runs."""
    return sorted({run.path.parent.name for run in list_runs(runs_root)})


def list_runs(runs_root: Path, name: str | None = None) -> list[RunDirectory]:
    """All runs (of one name), the oldest first; folders without a record are none."""
    root = Path(runs_root)
    folders = [root / name] if name else _folders(root)
    found = [path for folder in folders for path in _folders(folder) if STAMP.fullmatch(path.name) and _is_run(path)]
    return [RunDirectory(path) for path in sorted(found, key=lambda path: (path.name, path.parent.name))]


def _names_one(root: Path, what: str | Path) -> bool:
    """Whether the words name one run folder rather than all runs of a name."""
    return any(STAMP.fullmatch(path.name) for path in (root / str(what), Path(what)))


def _is_run(path: Path) -> bool:
    return os.path.isfile(path / RECORD)


def _no_run(path: Path) -> RunError:
    return RunError(f"{path} has no {RECORD}, so it is not a run that can be used")


def _text(record: dict[str, Any]) -> bytes:
    return json.dumps(record, indent=2, allow_nan=False).encode() + b"\n"


def _folders(path: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(path) if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise fault(error, path, "read") from error


def _run_at(path: Path) -> RunDirectory | None:
    """The run at a path: the folder itself, or the newest of a name's folder."""
    # Unlike `is_dir`, no where a name can't be one or its folder may not be read.
    if not os.path.isdir(path):
        return None
    if _is_run(path):
        return RunDirectory(path)
    if STAMP.fullmatch(path.name):
        raise _no_run(path)
    try:
        newest = (path / LATEST).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        newest = ""
    if STAMP.fullmatch(newest) and _is_run(path / newest):
        return RunDirectory(path / newest)
    runs = list_runs(path.parent, path.name)
    return runs[-1] if runs else None


def finder(runs_root: Path) -> Callable[[str], Path]:
    """From the word for a run to the directory of one that has a model."""
    return lambda what: RunDirectory.find_usable(runs_root, what).path
