"""Files of a run that grow epoch by epoch: a resumed run cuts off what the epochs that it repeats had written."""

from __future__ import annotations

from pathlib import Path

from trainer.errors import EnvironmentFault
from trainer.folders import make_inside


def grown(home: Path, name: str, size: int, data: bytes) -> int:
    """Put data behind the first `size` bytes of a file under the run directory; its new size.

    Raises:
        EnvironmentFault: the file can't be written, or the run directory is gone.
    """
    path = home / name
    try:
        make_inside(home, path.parent)
        with path.open("r+b" if path.is_file() else "w+b") as file:
            file.seek(min(size, path.stat().st_size))
            file.truncate()
            file.write(data)
            return file.tell()
    except OSError as error:
        raise EnvironmentFault(f"can't write {path}: {error.strerror}", code="write") from error
