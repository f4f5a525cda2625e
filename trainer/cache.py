"""Where files stand that can be had again: data sets that were downloaded, steps that were compiled."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """A folder of ours in the user's cache (`XDG_CACHE_HOME`, or else `~/.cache`)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trainer" / name
