"""Made tasks on strings of digits, for an encoder with a decoder that is told the answer so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import model_validator

from trainer.lazy import np
from trainer.options import NonNegativeInt, PositiveInt, Rule, complaint, integer, raise_all
from trainer.sources.base import Places, Source
from trainer.sources.columns import Field, Rows, Table
from trainer.sources.drawn import MOST_BYTES, digest_of
from trainer.streams import stream

if TYPE_CHECKING:
    import numpy

MOST_DIGITS = 18
"Sums of larger numbers do not fit into 64 bits."
WORDS = ("<pad>", "<start>", "<end>", *"0123456789")
START, END, ZERO = 1, 2, 3


def _length(value: object) -> int:
    found = integer(value)
    if not 1 <= found <= MOST_DIGITS:
        raise ValueError
    return found


Length = Annotated[
    int,
    Rule(
        f"an integer from 1 to {MOST_DIGITS}",
        _length,
        {"type": "integer", "minimum": 1, "maximum": MOST_DIGITS},
    ),
]


class MadeSequences(Source):
    """Digits to turn round, sort or add up: `source`, and the `answer` with the `shifted` one that a decoder is told.

    For reverse, 4 7 1 becomes 1 7 4; every answer ends with <end> (2), and `shifted` is <start> (1) with the answer
    behind it but its last place. Digits count from 3, + follows them, and 0 fills rows up at the end (add).
    No source of a test row is one of a training row, also not as the sum the other way round.
    """

    task: Literal["reverse", "sort", "add"] = "reverse"
    "What the answer is: the digits from the end to the beginning, in rising order, or the sum of two numbers."
    length: Length = 5
    "Digits of a string; for add the most of a number, which has no zeros in front."
    samples: PositiveInt = 10_000
    "Training rows."
    test_samples: NonNegativeInt = 1_000
    "Test rows; 0 for none."
    seed: NonNegativeInt = 0
    "Seed that the rows are drawn from."

    @model_validator(mode="after")
    def _can_be(self) -> MadeSequences:
        rows, high = self.samples + self.test_samples, 10**self.length
        there = high * (high + 1) // 2 if self.task == "add" else high
        if rows > there // 2:
            message = (
                f"expected at most {there // 2:,} rows, half of what there are of {self.length} digits, found {rows:,}"
            )
            raise_all([(complaint(message, "a larger length"), ("samples",))])
        if rows * sum(self._widths()) * 8 > MOST_BYTES:
            raise_all(
                [(complaint(f"{rows:,} rows take more than {MOST_BYTES >> 30} GiB", "fewer samples"), ("samples",))]
            )
        return self

    def _widths(self) -> tuple[int, int, int]:
        """Lengths of a row of source, shifted and answer."""
        adds = self.task == "add"
        answer = self.length + adds + 1
        return 2 * self.length + 1 if adds else self.length, answer, answer

    def words(self) -> tuple[str, ...]:
        """What each number stands for."""
        return (*WORDS, "+") if self.task == "add" else WORDS

    def fields(self) -> dict[str, Field]:
        names = zip(("source", "shifted", "answer"), self._widths(), strict=True)
        made = {name: Field((width,), "int64") for name, width in names}
        return {**made, "answer": Field(made["answer"].shape, "int64", self.words())}

    def open(self, places: Places) -> Table:
        generator = stream(self.seed, "made_sequences", self.task, self.length)
        count = self.samples + self.test_samples
        drawn = distinct(generator, 10**self.length, 2 if self.task == "add" else 1, count)
        columns = self._columns(drawn)
        rows = Rows(columns)
        test = rows.take(slice(self.samples, None)) if self.test_samples else None
        digests = {"made_sequences": digest_of(*columns.values())}
        return Table(rows.take(slice(0, self.samples)), test, self.fields(), digests, self.words())

    def _columns(self, drawn: numpy.ndarray) -> dict[str, Any]:
        asked, answers = self._texts(drawn)
        width, long, _ = self._widths()
        answer = numbers_of(answers, long)
        answer[np.arange(len(answer)), (answer > 0).sum(1)] = END
        shifted = np.concatenate([np.full((len(answer), 1), START), answer[:, :-1]], axis=1)
        return {"source": numbers_of(asked, width), "shifted": shifted, "answer": answer}

    def _texts(self, drawn: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
        """(what is asked, the answers) as texts."""
        if self.task == "add":
            asked = np.strings.add(np.strings.add(drawn[:, 0].astype("S"), b"+"), drawn[:, 1].astype("S"))
            return asked, drawn.sum(1).astype("S")
        digits = (drawn // 10 ** np.arange(self.length - 1, -1, -1) % 10 + ord("0")).astype("u1")
        answers = digits[:, ::-1] if self.task == "reverse" else np.sort(digits, axis=1)
        asked, told = (np.ascontiguousarray(d).view(f"S{self.length}")[:, 0] for d in (digits, answers))
        return asked, told


def distinct(generator: numpy.random.Generator, high: int, parts: int, count: int) -> numpy.ndarray:
    """Rows of `parts` numbers below `high`, no two of them equal in whatever order; at most half of all there are."""
    found = np.zeros((0, parts), "int64")
    while len(found) < count:
        found = np.concatenate([found, generator.integers(0, high, (count, parts))])
        first = np.unique(np.sort(found, axis=1), axis=0, return_index=True)[1]
        found = found[np.sort(first)]
    return found[:count]


def numbers_of(texts: numpy.ndarray, width: int) -> numpy.ndarray:
    """The numbers of texts of digits and +, filled up with 0 at the end."""
    table = np.zeros(256, "int64")
    table[[ord(c) for c in "0123456789+"]] = np.arange(ZERO, ZERO + 11)
    return table[texts.astype(f"S{width}").view("u1").reshape(len(texts), width)]
