"""Plain text read with bounds: as many characters as are wanted, and the line of bytes that are none."""

from __future__ import annotations

import codecs
import io
import re
from pathlib import Path

from trainer.errors import DataError, FileError

MOST_CHARACTERS = 1 << 25
CHUNK = 1 << 20
HALVES = re.compile("[\ud800-\udfff]")
"Halves of a character, which some encodings can write alone."


def read_text(path: Path, encoding: str = "utf-8", limit: int | None = None, hint: str = "") -> str:
    """The text of a file with line feeds between lines, without a byte order mark; its first `limit` characters.

    Raises:
        DataError: bytes that are no text in this encoding; names the line.
        FileError: it can't be read, or more than `MOST_CHARACTERS` are wanted of it; `hint` says what to do then.
    """
    parts: list[str] = []
    most = MOST_CHARACTERS if limit is None else min(limit, MOST_CHARACTERS)
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    try:
        with path.open("rb") as file:
            ended, have = False, 0
            # One more than wanted, which a byte order mark may take.
            while not ended and have <= most + 1:
                block = file.read(CHUNK)
                ended = not block
                part = decoder.decode(block, final=ended)
                if half := HALVES.search(part):
                    raise _undecodable(path, encoding, [*parts, part[: half.start()]])
                parts.append(part)
                have += len(part)
    except UnicodeDecodeError as error:
        good = error.object[: error.start].decode(encoding, "replace")
        raise _undecodable(path, encoding, [*parts, good.replace("\r\n", "\n").replace("\r", "\n")]) from None
    except UnicodeError:
        raise _undecodable(path, encoding, parts) from None
    except OSError as error:
        raise FileError(f"{path}: can't be read: {error.strerror}") from None
    text = "".join(parts).removeprefix("\ufeff")
    if len(text) > most == MOST_CHARACTERS:
        raise FileError(f"{path}: the text is longer than {most:,} characters", hint=hint)
    return text[:most]


def _undecodable(path: Path, encoding: str, before: list[str]) -> DataError:
    line = 1 + sum(part.count("\n") for part in before)
    message = f"{path}:{line}: the line holds bytes that are not {encoding}"
    return DataError(message, hint="name the file's encoding, such as latin-1", code="text")
