"""Folders made inside one that must be there already: what somebody removed does not come back."""

from __future__ import annotations

from pathlib import Path


def make_inside(home: Path, path: Path) -> None:
    """Make the folder `path` under `home`, and those between; `home` itself is never made.

    Raises:
        OSError: the system refuses, or `home` is gone.
    """
    for part in path.relative_to(home).parts:
        home /= part
        home.mkdir(exist_ok=True)
