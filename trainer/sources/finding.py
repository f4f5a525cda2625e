"""Where the file of a named set is: the data folder, Keras's cache, a system folder, or a pinned download."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from trainer.errors import EnvironmentFault, FileError
from trainer.sources.base import Places

SYSTEM = Path("/usr/share/datasets")
CHUNK = 1 << 20


@dataclass(frozen=True)
class Published:
    """A file as its publisher offers it: address, sha256 and size cap."""

    url: str
    sha256: str
    most: int = 200 << 20


def digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find(places: Places, name: str, folders: tuple[str, ...] = (), published: Published | None = None) -> Path:
    """The file `name`, looked for in `folders` of every place and in the place itself.

    Raises:
        FileError: it is nowhere, and can't be downloaded; says where it was looked for and what to do.
    """
    looked = [root / folder for root in _roots(places) for folder in (*folders, "")]
    for folder in looked:
        if (folder / name).is_file():
            return folder / name
    if published is not None and places.download:
        return download(published, cache() / (folders[0] if folders else "") / name)
    where = ", ".join(dict.fromkeys(str(f) for f in looked)) or "no folder: set --data"
    source = f" (published at {published.url})" if published else ""
    raise FileError(f"{name} is not here{source}", hint=f"put it into one of: {where}", code="missing-data")


def _roots(places: Places) -> list[Path]:
    keras = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "datasets"
    return [*([places.data] if places.data else []), cache(), keras, SYSTEM]


def cache() -> Path:
    """Where downloads are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "trainer" / "datasets"


def download(published: Published, path: Path) -> Path:
    """Fetch a published file: https only, resumed where it stopped, checked, then moved into place.

    Raises:
        FileError: not reachable, too large, or not the published bytes.
    """
    if not published.url.startswith("https://"):
        raise FileError(f"{published.url}: only https is downloaded")
    return fetch(published, path)


def fetch(published: Published, path: Path) -> Path:
    """`download` without the rule on the address, for tests against a local server."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _continue(published, part)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        hint = f"fetch {published.url} by hand and put it into {path.parent}"
        raise FileError(f"{path.name} can't be downloaded: {error}", hint=hint, code="offline") from None
    except OSError as error:
        raise EnvironmentFault(f"{part}: {error.strerror}", hint="free some space, or set --data") from None
    found = digest(part)
    if found != published.sha256:
        part.unlink()
        raise FileError(f"{published.url}: expected sha256 {published.sha256}, found {found}", code="sha256")
    os.replace(part, path)
    return path


def _continue(published: Published, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(published.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if have and error.code == 416:
            return
        raise
    with answer, part.open("ab" if have and answer.status == 206 else "wb") as file:
        while block := answer.read(CHUNK):
            if file.tell() + len(block) > published.most:
                raise urllib.error.URLError(f"larger than {published.most:,} bytes")
            file.write(block)
