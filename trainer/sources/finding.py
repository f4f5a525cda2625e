"""Where the file of a named set is: the data folder, our cache, Keras's cache, a system folder, or the publisher."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from trainer.cache import cache_folder
from trainer.errors import FileError
from trainer.sources.base import Places, is_file
from trainer.sources.downloading import Published, download

SYSTEM = Path("/usr/share/datasets")
"Where distributions install data sets."


def find(places: Places, name: str, published: Published | None = None, folder: str = "") -> Path:
    """The file `name`, looked for in `folder` of every place; downloaded when its publisher is known.

    Raises:
        FileError: it is nowhere, and can't be downloaded; says where it was looked for and what to do.
    """
    looked = [root / folder for root in roots(places)]
    for place in looked:
        if is_file(place / name):
            return place / name
    where = ", ".join(str(p) for p in looked)
    if published is not None and places.download:
        return download(published, cache_folder("datasets") / folder / name, where)
    raise missing(name, where, published)


def missing(what: str, where: str, published: Published | None) -> FileError:
    """The error for a file that is in none of the places."""
    get = f"fetch {published.url} and put it" if published else "put it"
    return FileError(f"{what} is not here", hint=f"{get} into one of: {where}", code="missing-data")


def together(places: Places, names: Sequence[str], folder: str) -> list[Path] | None:
    """Files that belong together, from the first place whose `folder` holds them all."""
    for root in roots(places):
        paths = [root / folder / name for name in names]
        if all(is_file(path) for path in paths):
            return paths
    return None


def roots(places: Places) -> list[Path]:
    """The places of named sets, in the order in which they are looked at."""
    keras = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets"
    return list(dict.fromkeys([*([places.data] if places.data else []), cache_folder("datasets"), keras, SYSTEM]))
