"""Lines of a CSV file, for messages; read a second time, once something is known to be wrong."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path


def rows(path: Path, encoding: str, delimiter: str, skip: int) -> Iterator[tuple[int, int]]:
    """(line on which it begins, number of values) of every row; blank lines are none, a quoted value may span lines."""
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        for _ in islice(file, skip):
            pass
        reader = csv.reader(file, delimiter=delimiter)
        line = skip + 1
        try:
            for row in reader:
                if row:
                    yield line, len(row)
                line = skip + 1 + reader.line_num
        except csv.Error:
            return


def line_of(path: Path, encoding: str, delimiter: str, skip: int, row: int) -> int:
    """The line on which a row begins; rows count from 0 and include the header."""
    found = next(islice(rows(path, encoding, delimiter, skip), row, None), None)
    return found[0] if found is not None else skip + 1 + row


def uneven(path: Path, encoding: str, delimiter: str, skip: int) -> tuple[int, int, int] | None:
    """(line, values found, values expected) of the first row that is not as wide as the first one."""
    expected = 0
    for line, width in rows(path, encoding, delimiter, skip):
        expected = expected or width
        if width != expected:
            return line, width, expected
    return None


def undecodable(path: Path, encoding: str) -> int | None:
    """The first line that is no text in this encoding; None when all are."""
    data = path.read_bytes()
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        return data.count(b"\n", 0, error.start) + 1
    except UnicodeError:
        return 1
    return None
