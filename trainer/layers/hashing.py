"""Hashing and HashedCrossing: values to one of a number of bins, without a vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from trainer.errors import DataError
from trainer.layers.hashes import buckets, crossed, fingerprints
from trainer.layers.host import Dense, HostLayer, RawRows, like, parts
from trainer.layers.plan import Plan
from trainer.layers.vocabulary import Salt
from trainer.lazy import np
from trainer.options import PositiveInt, Rule
from trainer.shapes import Shape, text

if TYPE_CHECKING:
    from numpy import ndarray


def _value(value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise TypeError
    return value


MaskValue = Annotated[
    int | str, Rule("an integer or a text", _value, {"anyOf": [{"type": "integer"}, {"type": "string"}]})
]


def _bytes_of(values: ndarray) -> list[bytes]:
    """Each value as the bytes that are hashed: integers in digits, fractions cut off."""
    if values.dtype.kind == "S":
        return values.tolist()
    if values.dtype.kind in "biuf":
        return [str(v).encode() for v in values.astype("int64").tolist()]
    return [(v if isinstance(v, str) else str(int(v))).encode("utf-8", "surrogatepass") for v in values.tolist()]


class Hashing(HostLayer):
    """A bin for each text or integer, by a hash that is the same everywhere: FarmHash64, or SipHash64 with a salt.

    Integers are hashed as their digits. Stands before the model.
    https://keras.io/api/layers/preprocessing_layers/categorical/hashing/

    Shape: (batch, ...) -> (batch, ...) for int; (batch, ..., num_bins) for one_hot; (batch, num_bins) for rows
    """

    num_bins: PositiveInt
    "Number of bins, that of the mask included."
    mask_value: MaskValue | None = None
    "Value that always falls into bin 0, which no other then does."
    salt: Salt | None = None
    "Key of SipHash, so that others can't tell the bins: an integer, or two."
    output_mode: Literal["int", "one_hot", "multi_hot", "count"] = "int"
    "int: the bin's number; one_hot: a vector for each value; multi_hot: one for each row; count: how often each bin."
    sparse: Dense = False
    "Keras's switch for sparse tensors."

    def depth(self) -> int:
        return self.num_bins

    def reader(self) -> Callable[[RawRows], RawRows]:
        masked = self.mask_value is not None and self.num_bins > 1
        bins = self.num_bins - masked

        def read(rows: RawRows) -> RawRows:
            values, offsets = parts(rows)
            flat = np.asarray(values).reshape(-1)
            ids = buckets(_bytes_of(flat), bins, self.salt) + int(masked)
            if masked:
                ids[self._is_mask(flat)] = 0
            return like(ids.reshape(np.shape(values)), offsets)

        return read

    def _is_mask(self, flat: ndarray) -> ndarray:
        """
        Raises:
            DataError: texts are held against an integer, or integers against a text.
        """
        if flat.dtype.kind == "S":
            return flat == str(self.mask_value).encode()
        if isinstance(self.mask_value, str) == (flat.dtype.kind in "biuf"):
            found = "numbers" if isinstance(self.mask_value, str) else "text"
            raise DataError(f"Hashing.mask_value is {self.mask_value!r}, but the values are {found}")
        return np.asarray(flat == self.mask_value, bool)


class HashedCrossing(HostLayer):
    """A bin for the values of a row's columns together, by a hash: the feature cross of two or more columns.

    Keras takes a list of inputs; here they are the columns of one. Stands before the model.
    https://keras.io/api/layers/preprocessing_layers/categorical/hashed_crossing/

    Shape: (batch, columns) -> (batch, 1) for int; (batch, num_bins) for one_hot
    """

    num_bins: PositiveInt
    "Number of bins."
    output_mode: Literal["int", "one_hot"] = "int"
    "int: the bin's number; one_hot: a vector with 1 at it."
    sparse: Dense = False
    "Keras's switch for sparse tensors."

    not_keras = ("trainable",)

    def depth(self) -> int:
        return self.num_bins

    def build(self, plan: Plan, shape: Shape) -> Shape:
        if len(shape) != 2 or (shape[1] is not None and shape[1] < 2):
            hint = "name them in the feature's columns"
            raise ValueError(f"expected two or more columns, (batch, columns), found {text(shape)}; {hint}")
        return (shape[0], 1) if self.output_mode == "int" else (shape[0], self.num_bins)

    def reader(self) -> Callable[[RawRows], RawRows]:
        def read(rows: RawRows) -> RawRows:
            columns = [_crossable(np.asarray(rows)[:, i]) for i in range(np.shape(rows)[1])]
            return crossed(columns, self.num_bins)[:, None]

        return read


def _crossable(column: ndarray) -> ndarray:
    """A column as uint64: integers as they are, texts by their fingerprint.

    Raises:
        DataError: it holds fractions.
    """
    values: Iterable[Any] = column.tolist()
    if column.dtype.kind in "biu" or all(isinstance(v, int) for v in values):
        return column.astype("int64").astype("uint64")
    odd = next((v for v in values if isinstance(v, float)), None)
    if odd is not None:
        raise DataError(
            f"HashedCrossing reads texts and whole numbers, found {odd:g}", hint="Discretization makes bins"
        )
    return fingerprints(_bytes_of(column))
