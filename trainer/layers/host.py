"""What preprocessing layers share that read texts, or whose options the training rows fill in.

Texts never enter torch: a HostLayer's `reader` turns raw rows into numbers with numpy, before the model, and its
`forward` encodes those numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import PrivateAttr

from trainer.declare import plain
from trainer.errors import DataError
from trainer.layers.base import Layer, Weights
from trainer.layers.categories import encode, encode_ragged, encoded_shape
from trainer.layers.plan import Plan
from trainer.lazy import np
from trainer.options import Rule
from trainer.shapes import Shape

if TYPE_CHECKING:
    from numpy import ndarray
    from torch import Tensor

RawRows = Any
"An array with rows along its first axis, or (values, offsets) of rows of unequal length, end to end."
Sort = Literal["text", "integer"]


def never(what: str) -> Rule:
    """A switch that Keras has and that can't be on here."""

    def read(value: Any) -> bool:
        if value is not False:
            raise ValueError
        return value

    return Rule(f"false ({what})", read, {"const": False})


Dense = Annotated[bool, never("sparse tensors exist with TensorFlow alone, in Keras too")]


class UnknownValue(ValueError):
    """A value that a layer has no number for; `place` counts over all values of the rows."""

    def __init__(self, message: str, place: int, hint: str):
        super().__init__(message)
        self.place, self.hint = place, hint


class Learner(Layer, abstract=True):
    """A preprocessing step with options that the training rows give when they are left out."""

    preprocessing = True
    learns: ClassVar[tuple[str, ...]] = ()
    "Those options."

    def is_open(self) -> bool:
        """Whether training rows must be seen before the layer can be used."""
        return getattr(self, self.learns[0]) is None if self.learns else False

    def learned(self, batches: Iterable[RawRows]) -> Self:
        """The layer with its open options as these training rows give them.

        Raises:
            DataError: there are no rows, or they are not what the layer reads.
        """
        raise NotImplementedError

    def found(self) -> ndarray:
        """What was learned, as bytes to keep with a run."""
        text = json.dumps({name: plain(getattr(self, name)) for name in self.learns})
        return np.frombuffer(text.encode("utf-8", "surrogatepass"), "uint8").copy()

    def with_found(self, kept: ndarray) -> Self:
        """The layer as it was when `found` was asked."""
        values = json.loads(bytes(kept).decode("utf-8", "surrogatepass"))
        return self.model_copy(update={k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


class HostLayer(Learner, abstract=True):
    """A preprocessing step that reads texts or whole numbers, outside of the model (Keras needs TensorFlow for it)."""

    reads: ClassVar[tuple[Sort, ...]] = ("text", "integer")
    "What the raw rows may hold."

    _file: str | None = PrivateAttr(default=None)

    if TYPE_CHECKING:
        output_mode: Any

    def spec(self) -> Any:
        """As everywhere, with a vocabulary that came from a file under the file's name."""
        found = super().spec()
        return found if self._file is None else {k: {**v, "vocabulary": self._file} for k, v in found.items()}

    def unread(self) -> str | None:
        """The vocabulary file that is named and has not been read."""
        found = getattr(self, "vocabulary", None)
        return found if isinstance(found, str) else None

    def with_tokens(self, tokens: tuple[Any, ...]) -> Self:
        """The layer with the vocabulary of its file.

        Raises:
            ValueError: a line is no value of such a vocabulary, or the vocabulary does not fit the other options.
        """
        made = type(self).read({**{n: getattr(self, n) for n in type(self).model_fields}, "vocabulary": tokens})
        made._file = self._file or self.unread()
        return made

    def makes_text(self) -> bool:
        """Whether texts come out, which only another such step can read."""
        return False

    def encodes(self) -> bool:
        """Whether `forward` turns the reader's numbers into something else."""
        return self.output_mode != "int"

    def depth(self) -> int | None:
        """Entries of an encoded row; None while the layer is open."""
        raise NotImplementedError

    def names(self) -> tuple[str, ...] | None:
        """What each number that comes out stands for, where that is known."""
        return None

    def reader(self) -> Callable[[RawRows], RawRows]:
        """The function from raw rows to numbers (int64, -1 where a value is dropped), or to texts.

        It raises UnknownValue where a value has no number.
        """
        raise NotImplementedError

    def build(self, plan: Plan, shape: Shape) -> Shape:
        if self.unread():
            raise ValueError(f"the vocabulary file {self.unread()} has not been read")
        return encoded_shape(shape, self.output_mode, self.depth())

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        """The reader's numbers, encoded."""
        if x.is_floating_point():
            raise DataError(f"{type(self).__name__} can't stand in a model", hint="put it under a feature's preprocess")
        return encode(x, self.output_mode, self.depth() or 0)

    def forward_ragged(self, w: Weights, values: Tensor, offsets: Tensor) -> Tensor:
        """The reader's numbers in rows of unequal length, encoded."""
        return encode_ragged(values, offsets, self.output_mode, self.depth() or 0)


def texts_of(rows: Any, layer: str, encoding: str = "utf-8") -> list[str]:
    """The texts of an array, one after another.

    Raises:
        DataError: it holds something else.
    """
    values = np.asarray(rows)
    flat = values.reshape(-1).tolist()
    if values.dtype.kind == "S":
        try:
            return [v.decode(encoding) for v in flat]
        except UnicodeDecodeError as error:
            raise DataError(f"{layer}: the texts hold bytes that are not {encoding}: {error}") from None
    odd = None if values.dtype.kind == "U" else next((v for v in flat if not isinstance(v, str)), None)
    if odd is not None:
        raise DataError(f"{layer} reads texts, found the number {odd}", hint="IntegerLookup reads whole numbers")
    return flat


def integers_of(rows: Any, layer: str) -> ndarray:
    """An array as int64.

    Raises:
        DataError: it holds texts or fractions.
    """
    values = np.asarray(rows)
    if values.dtype.kind not in "biuf":
        raise DataError(f"{layer} reads whole numbers, found text", hint="StringLookup reads texts")
    whole = values.astype("int64")
    if values.dtype.kind == "f" and not (whole == values).all():
        odd = values[whole != values].flat[0]
        raise DataError(f"{layer} reads whole numbers, found {odd:g}", hint="Discretization makes bins of numbers")
    return whole


def parts(rows: RawRows) -> tuple[Any, Any]:
    """(values, offsets) of rows; rows of equal length have no offsets."""
    return rows if isinstance(rows, tuple) else (rows, None)


def like(values: Any, offsets: Any) -> RawRows:
    """`parts` undone."""
    return values if offsets is None else (values, offsets)
