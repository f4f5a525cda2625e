"""bAbI: short stories, a question about each, and an answer of one word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from trainer.errors import DataError, FileError
from trainer.lazy import np
from trainer.options import Bool, PositiveInt, Rule, Str, integer
from trainer.sources.base import Places, Source, home
from trainer.sources.columns import Field, Rows, Table
from trainer.sources.downloading import digest
from trainer.sources.finding import roots
from trainer.sources.text_files import read_text

if TYPE_CHECKING:
    import numpy

PAD = "<pad>"
PARTS = ("train", "test")
MOST_NUMBERS = 1 << 26
"Words in the stories of a part."


def _task(value: object) -> int:
    found = integer(value)
    if not 1 <= found <= 20:
        raise ValueError
    return found


Task = Annotated[int, Rule("a task from 1 to 20", _task, {"type": "integer", "minimum": 1, "maximum": 20})]


class Asked(NamedTuple):
    """A question: the words before it are the first `length` of `words`, which later questions share."""

    words: list[str]
    length: int
    question: list[str]
    answer: str


class Babi(Source):
    """A bAbI task (Weston et al., 2015): `story`, `question` and the word that is the `answer`, as word numbers.

    Words and marks of training and test rows are numbered from 1 in sorted order, and 0 fills rows up at the front, as
    in Keras's published memory network. The published test rows are the test part. Of task 1: 10,000 + 1,000 rows, 21
    words and marks, of which a story holds at most 68 and a question 4. With story_maxlen and query_maxlen the
    shapes are known before the files are read.
    """

    path: Str = "babi"
    "Folder of the files qa1_…_train.txt and qa1_…_test.txt, counted from the recipe's folder or the data folder."
    task: Task = 1
    "Number of the task, with which the names of its two files begin."
    story_maxlen: PositiveInt | None = None
    "Length of every story, of longer ones the end; null for that of the longest."
    query_maxlen: PositiveInt | None = None
    "Length of every question, of longer ones the end; null for that of the longest."
    only_supporting: Bool = False
    "Keep only the sentences of a story that the answer follows from."

    def fields(self) -> dict[str, Field]:
        return self._fields(self.story_maxlen, self.query_maxlen, None)

    def _fields(self, story: int | None, question: int | None, words: tuple[str, ...] | None) -> dict[str, Field]:
        kind = "int64"
        return {"story": Field((story,), kind), "question": Field((question,), kind), "answer": Field((), kind, words)}

    def open(self, places: Places) -> Table:
        paths = task_files(places, self.path, self.task)
        parts = [read_stories(path, self.only_supporting) for path in paths]
        words = vocabulary([row for rows in parts for row in rows])
        numbers = {word: number for number, word in enumerate(words)}
        story = self.story_maxlen or max(1, *(row.length for rows in parts for row in rows))
        question = self.query_maxlen or max(len(row.question) for rows in parts for row in rows)
        for path, rows in zip(paths, parts, strict=True):
            if len(rows) * max(story, question) > MOST_NUMBERS:
                message = f"{path}: {len(rows):,} stories of length {max(story, question):,} are too much to hold"
                raise DataError(message, hint="a story_maxlen")
        train, test = [as_rows(rows, numbers, story, question) for rows in parts]
        return Table(train, test, self._fields(story, question, words), {p.name: digest(p) for p in paths}, words)


def task_files(places: Places, folder: str, task: int) -> list[Path]:
    """The files of a task's training and test rows, from the first place whose folder has both.

    Raises:
        FileError: no place has them, or one has several.
    """
    looked = [root / home(folder) for root in dict.fromkeys([places.recipe or Path(), *roots(places)])]
    for place in looked:
        found = [_matching(place, f"qa{task}_*_{part}.txt") for part in PARTS]
        several = next((paths for paths in found if len(paths) > 1), None)
        if several is not None:
            raise FileError(f"{place}: expected one file, found {several[0].name} and {several[1].name}")
        if all(found):
            return [paths[0] for paths in found]
    where = ", ".join(str(place) for place in dict.fromkeys(looked))
    hint = f"unpack babi_tasks_1-20_v1-2.tar.gz, and put its folder en-10k into the place of one of: {where}"
    raise FileError(f"qa{task}_*_train.txt and qa{task}_*_test.txt are not here", hint=hint, code="missing-data")


def _matching(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except (OSError, ValueError):
        return []


def read_stories(path: Path, only_supporting: bool = False) -> list[Asked]:
    """The questions of a file of numbered sentences, each with what its story told before.

    Raises:
        DataError: a line that is no sentence and no question; names it.
    """
    asked: list[Asked] = []
    words: list[str] = []
    ends, kept = [0], 0
    for place, number, rest in _numbered(path):
        if number == 1:
            words, ends = [], [0]
        if number != len(ends):
            raise DataError(f"{place}: expected sentence {len(ends)} of the story, found {number}", code="text")
        if "\t" in rest:
            question, answer, supporting = _question(place, rest)
            told, length = words, len(words)
            if only_supporting:
                named = [(ends[n - 1], ends[n]) for n in _sentences(place, supporting, ends)]
                length = sum(end - start for start, end in named)
                kept += length
                if kept > MOST_NUMBERS:
                    raise DataError(f"{place}: the sentences that answers follow from are too much to hold")
                told = [word for start, end in named for word in words[start:end]]
            asked.append(Asked(told, length, question, answer))
        else:
            words += tokens(rest)
        ends.append(len(words))
    if not asked:
        raise DataError(f"{path}: there are no questions", code="text")
    return asked


def _numbered(path: Path) -> Iterator[tuple[str, int, str]]:
    """(place, number, rest) of every line."""
    for line, text in enumerate(read_text(path).split("\n"), 1):
        number, _, rest = text.strip(" ").partition(" ")
        if not number:
            continue
        if not (number.isascii() and number.isdigit() and len(number) < 10 and rest.strip()):
            message = f'{path}:{line}: expected a number and a sentence, found "{text[:40]}"'
            raise DataError(message, code="text")
        yield f"{path}:{line}", int(number), rest


def _question(place: str, text: str) -> tuple[list[str], str, str]:
    parts = text.split("\t")
    if len(parts) != 3 or not tokens(parts[0]) or not parts[1].strip():
        message = f"{place}: expected a question, its answer and the sentences it follows from, with tabs between"
        raise DataError(message, code="text")
    return tokens(parts[0]), parts[1].strip(), parts[2]


def _sentences(place: str, text: str, ends: list[int]) -> list[int]:
    """The numbers of earlier sentences that a question names."""
    named = text.split()
    if not all(n.isascii() and n.isdigit() and len(n) < 10 and 1 <= int(n) < len(ends) for n in named):
        message = f'{place}: expected numbers of earlier sentences, from 1 to {len(ends) - 1}, found "{text[:40]}"'
        raise DataError(message, code="text")
    return [int(n) for n in named]


def tokens(sentence: str) -> list[str]:
    """The words of a sentence and the marks between them: `Mary moved.` has three."""
    return [found for part in re.findall(r"\w+|\W+", sentence) if (found := part.strip())]


def vocabulary(rows: list[Asked]) -> tuple[str, ...]:
    """Word of each number: what stories, questions and answers hold, sorted, behind the padding."""
    told = {id(row.words): row for row in sorted(rows, key=lambda row: row.length)}
    found = {word for row in told.values() for word in row.words[: row.length]}
    found |= {word for row in rows for word in (*row.question, row.answer)}
    return (PAD, *sorted(found))


def as_rows(rows: list[Asked], numbers: dict[str, int], story: int, question: int) -> Rows:
    """Stories, questions and answers as word numbers, of these lengths."""
    return Rows(
        {
            "story": padded([(row.words, row.length) for row in rows], numbers, story),
            "question": padded([(row.question, len(row.question)) for row in rows], numbers, question),
            "answer": np.asarray([numbers[row.answer] for row in rows], "int64"),
        }
    )


def padded(rows: list[tuple[list[str], int]], numbers: dict[str, int], width: int) -> numpy.ndarray:
    """Word numbers of the first words of each row: of long ones the end, short ones filled up with 0 at the front."""
    out = np.zeros((len(rows), width), "int64")
    for line, (words, length) in zip(out, rows, strict=True):
        kept = words[max(0, length - width) : length]
        line[width - len(kept) :] = [numbers[word] for word in kept]
    return out
