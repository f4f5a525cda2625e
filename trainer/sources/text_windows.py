"""Windows over one text, each with what comes next: to learn to write like it."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from trainer.errors import DataError
from trainer.lazy import np
from trainer.options import Bool, PositiveInt, Rule, Str, integer
from trainer.sources.base import Places, Source
from trainer.sources.columns import Field, Rows, Table
from trainer.sources.csv_files import Encoding
from trainer.sources.downloading import digest
from trainer.sources.text_files import MOST_CHARACTERS, read_text

if TYPE_CHECKING:
    import numpy

UNKNOWN = "<unknown>"
Level = Literal["char", "word"]
CHUNK = 1 << 20
WORD = re.compile(r'[^\s!"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~]+')
"Keras's Tokenizer takes the same marks for gaps between words."


def _two(value: object) -> int:
    found = integer(value)
    if found < 2:
        raise ValueError
    return found


TwoOrMore = Annotated[int, Rule("an integer of 2 or more", _two, {"type": "integer", "minimum": 2})]


class TextWindows(Source):
    """Windows over a text file: `window`, the numbers of maxlen characters or words, and `next`, the one that follows.

    A window begins at every step-th place, as in Keras's text generation with an LSTM. What the text holds is numbered
    from 0 in sorted order; with num_words, 0 stands for what is too rare. Neighbours share most of their text:
    to hold rows back, take the last ones (`split: {test: {last: 1000}}`).

    Raises:
        DataError: the text is no longer than a window, or `after` does not occur in it.
    """

    path: Str
    "The file, counted from the recipe's folder or the data folder."
    level: Level = "char"
    "What is numbered: char for characters, word for words, without the marks between them."
    maxlen: PositiveInt = 40
    "Characters or words in a window."
    step: PositiveInt = 3
    "Characters or words from the beginning of a window to that of the next one."
    lower: Bool = True
    "Whether capital letters become small ones."
    num_words: TwoOrMore | None = None
    "Most numbers to use: the most frequent characters or words, and 0 for all others; null to number all of them."
    after: Str | None = None
    "Begin behind the first place where this stands, such as a licence's last line; null for the whole file."
    limit_chars: PositiveInt | None = None
    "Read only so many characters from there."
    encoding: Encoding = "utf-8"
    "Encoding of the file."

    def fields(self) -> dict[str, Field]:
        return {"window": Field((self.maxlen,), "int32"), "next": Field((), "int64")}

    def open(self, places: Places) -> Table:
        path = places.file(self.path)
        text = self._read(path)
        text = text.lower() if self.lower else text
        words, numbers = numbered(text, self.level, self.num_words)
        count = len(numbers) - self.maxlen
        if count < 1:
            message = f"{path}: expected more than maxlen ({self.maxlen}) {self.level}s, found {len(numbers)}"
            raise DataError(message, hint="a smaller maxlen")
        # Views of the text, so that windows take no memory; writeable because torch warns of what is not.
        windows = np.lib.stride_tricks.sliding_window_view(numbers, self.maxlen, writeable=True)
        columns = {"window": windows[: count : self.step], "next": numbers[self.maxlen :: self.step].astype("int64")}
        fields = {**self.fields(), "next": Field((), "int64", words)}
        return Table(Rows(columns), None, fields, {path.name: digest(path)}, words)

    def _read(self, path: Path) -> str:
        if self.after is None:
            return read_text(path, self.encoding, self.limit_chars, "a limit_chars")
        # With a limit, a text may be longer than what is ever read.
        bound = None if self.limit_chars is None else MOST_CHARACTERS - 1
        _, found, text = read_text(path, self.encoding, bound, "a limit_chars").partition(self.after)
        if not found:
            message = f"{path}: the text {self.after[:60]!r}, after which to begin, does not occur in it"
            raise DataError(message, hint="copy a line from the file; capitals and line ends count")
        return text if self.limit_chars is None else text[: self.limit_chars]


def numbered(text: str, level: Level, most: int | None = None) -> tuple[tuple[str, ...], numpy.ndarray]:
    """(what each number stands for, the numbers of a text): of all that it holds, or of the most frequent."""
    found, numbers = _points(text) if level == "char" else _words(text)
    counts = np.bincount(numbers, minlength=len(found))
    # By frequency, and in sorted order what is equally frequent.
    kept = sorted(range(len(found)), key=lambda n: (-counts[n], found[n]))[: None if most is None else most - 1]
    words = tuple(sorted(found[n] for n in kept))
    words = words if most is None else (UNKNOWN, *words)
    places = {word: place for place, word in enumerate(words)}
    # A word is never called <unknown>: its brackets are no letters.
    return words, np.asarray([places.get(word, 0) for word in found], "int32")[numbers]


def encode(text: str, words: Sequence[str], level: Level = "char", lower: bool = True) -> numpy.ndarray:
    """The numbers of a text by the `words` of a Table, as `TextWindows` gave them with the same level and lower.

    Raises:
        DataError: the text holds what has no number, and no number stands for the unknown; names all of it.
    """
    text = text.lower() if lower else text
    found, numbers = _points(text) if level == "char" else _words(text)
    places = {word: place for place, word in enumerate(words)}
    unknown = places.get(UNKNOWN)
    strange = [repr(word[:40]) for word in found if word not in places]
    if strange and unknown is None:
        what = "character" if level == "char" else "word"
        named = ", ".join(strange[:8]) + (f" and {len(strange) - 8} more" if len(strange) > 8 else "")
        said = f"the {what} {named} does not occur" if len(strange) == 1 else f"the {what}s {named} do not occur"
        message = f"{said} in the text that the model has learned from"
        raise DataError(message, hint=f"other words, or train with num_words, which leaves a number for such {what}s")
    return np.asarray([places.get(word, unknown) for word in found], "int32")[numbers]


def _points(text: str) -> tuple[list[str], numpy.ndarray]:
    """(the characters of a text, each once; the place of each of its characters among them)."""
    seen = np.zeros(0x110000, bool)
    for codes in _codes(text):
        seen[codes] = True
    points = np.flatnonzero(seen)
    places = np.zeros(0x110000, "int32")
    places[points] = np.arange(len(points))
    parts = [places[codes] for codes in _codes(text)]
    return [chr(p) for p in points], np.concatenate(parts) if parts else np.zeros(0, "int32")


def _codes(text: str) -> Iterator[numpy.ndarray]:
    for start in range(0, len(text), CHUNK):
        yield np.frombuffer(text[start : start + CHUNK].encode("utf-32-le", "surrogatepass"), "<u4")


def _words(text: str) -> tuple[list[str], numpy.ndarray]:
    """(the words of a text, each once; the place of each of its words among them)."""
    places: dict[str, int] = {}
    numbers = array("i", (places.setdefault(found[0], len(places)) for found in WORD.finditer(text)))
    return list(places), np.frombuffer(numbers, "int32") if numbers else np.zeros(0, "int32")
