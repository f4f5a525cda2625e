"""Downloads of published files: pinned, bounded, taken up where they stopped, and moved into place when complete."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import io
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trainer.errors import EnvironmentFault, FileError

CHUNK = 1 << 20
SECONDS = 30.0
"How long a server may be silent."


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


def download(published: Published, path: Path, where: str = "") -> Path:
    """Fetch a published file: https only, resumed where it stopped, checked, then moved into place.

    `where` names the places that a file fetched by hand can be put into.

    Raises:
        FileError: not reachable, too large, or not the published bytes.
    """
    if not published.url.startswith("https://"):
        raise FileError(f"{published.url}: only https is downloaded")
    return fetch(published, path, where)


def fetch(published: Published, path: Path, where: str = "") -> Path:
    """`download` without the rule on the address, for tests against a local server."""
    hint = f"fetch {published.url} by hand and put it into {'one of: ' + where if where else path.parent}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _part(path) as part:
            # Another process may have fetched it while this one waited for its turn.
            if not path.is_file():
                _complete(published, part, path, hint)
    except OSError as error:
        raise EnvironmentFault(
            f"{error.filename or path}: {error.strerror}", hint="free some space, or set --data"
        ) from None
    return path


@contextlib.contextmanager
def _part(path: Path) -> Iterator[io.BufferedRandom]:
    """The unfinished file, held by one at a time; it stays for the next attempt when it holds something."""
    part = path.with_name(path.name + ".part")
    while True:
        with part.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _still(file, part):
                continue
            try:
                yield file
            finally:
                if _still(file, part) and not os.fstat(file.fileno()).st_size:
                    part.unlink()
            return


def _still(file: io.BufferedRandom, path: Path) -> bool:
    """Whether the open file is the one of that name; its last holder may have moved or removed it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _complete(published: Published, part: io.BufferedRandom, path: Path, hint: str) -> None:
    for resumed in (part.seek(0, os.SEEK_END) > 0, False):
        _continue(published, part, hint)
        part.seek(0)
        found = hashlib.file_digest(part, "sha256").hexdigest()
        if found == published.sha256:
            os.fsync(part.fileno())
            os.replace(part.name, path)
            return
        part.truncate(0)
        if not resumed:
            break
    message = f"{published.url}: expected sha256 {published.sha256}, found {found}"
    raise FileError(message, hint=hint, code="sha256")


def _continue(published: Published, part: io.BufferedRandom, hint: str) -> None:
    """Write what is still missing behind what is there."""
    have = part.seek(0, os.SEEK_END)
    try:
        with contextlib.closing(_ask(published.url, have)) as answer:
            goes_on = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            if not (have and answer.status == 206 and goes_on):
                part.seek(0)
                part.truncate()
            if answer.status == 206 and not (have and goes_on):
                raise _Cut("the server went on at another place")
            _copy(answer, part, published.most)
    except urllib.error.HTTPError as error:
        error.close()
        # 416: nothing is missing; the digest says whether that is true.
        if not (have and error.code == 416):
            raise _offline(published, f"{error.code} {error.reason}", hint) from None
    except urllib.error.URLError as error:
        raise _offline(published, error.reason, hint) from None
    except (_Cut, http.client.HTTPException, ValueError) as error:
        raise _offline(published, error, hint) from None


def _offline(published: Published, why: Any, hint: str) -> FileError:
    return FileError(f"{published.url} can't be downloaded: {why}", hint=hint, code="offline")


class _Cut(Exception):
    """The connection ended too early."""


class _SameScheme(urllib.request.HTTPRedirectHandler):
    """Follows a server that sends elsewhere, but never from https to a scheme that protects nothing."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme != urlsplit(req.full_url).scheme:
            raise urllib.error.HTTPError(req.full_url, code, f"sent on to {newurl}, which is refused", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _ask(url: str, have: int) -> Any:
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        return urllib.request.build_opener(_SameScheme).open(request, timeout=SECONDS)
    except urllib.error.URLError:
        raise
    except OSError as error:
        raise _Cut(f"the connection ended: {error}") from None


def _copy(answer: Any, part: io.BufferedRandom, most: int) -> None:
    left: int | None = answer.length
    if left is not None and part.tell() + left > most:
        raise _Cut(f"it is larger than {most:,} bytes")
    while True:
        try:
            block = answer.read(CHUNK)
        except OSError as error:
            raise _Cut(f"the connection ended: {error}") from None
        if not block:
            break
        left = None if left is None else left - len(block)
        if part.tell() + len(block) > most:
            part.truncate(0)
            raise _Cut(f"it is larger than {most:,} bytes")
        part.write(block)
    if left:
        raise _Cut(f"the connection ended {left:,} bytes too early; the next attempt goes on from there")
