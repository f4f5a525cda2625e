"""What StringLookup and IntegerLookup share: values of a vocabulary as numbers or vectors, and back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from trainer.errors import nearest
from trainer.layers.base import Weights
from trainer.layers.host import HostLayer, RawRows, UnknownValue, integers_of, like, parts
from trainer.layers.vocabulary import Tally, problem_of
from trainer.lazy import np, torch
from trainer.options import complaint, raise_all

if TYPE_CHECKING:
    from numpy import ndarray
    from torch import Tensor

DROPPED, UNKNOWN = -1, -2
"Numbers of masked values in vectors, and of values without a place in the vocabulary, before they get one."


class IndexLookup(HostLayer, abstract=True):
    """Values to their place in a vocabulary, whose front holds the mask token (int only) and out-of-vocabulary places.

    https://keras.io/api/layers/preprocessing_layers/categorical/
    """

    learns = ("vocabulary", "idf_weights")

    if TYPE_CHECKING:
        max_tokens: Any
        num_oov_indices: Any
        mask_token: Any
        oov_token: Any
        vocabulary: Any
        idf_weights: Any
        invert: Any
        pad_to_max_tokens: Any
        salt: Any

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        found: list[tuple[PydanticCustomError, tuple[str | int, ...]]] = [(e, (o,)) for o, e in self._mistakes()]
        if found:
            raise_all(found)
        return self

    def _mistakes(self) -> Iterable[tuple[str, PydanticCustomError]]:
        if self.pad_to_max_tokens and self.max_tokens is None:
            yield "pad_to_max_tokens", complaint("pad_to_max_tokens needs max_tokens, the length to pad to")
        if self.max_tokens is not None and self.max_tokens <= self.start():
            places = f"{self.start()} places before the vocabulary (mask and out-of-vocabulary)"
            hint = f"{self.start() + 1} or more"
            yield "max_tokens", complaint(f"max_tokens {self.max_tokens} leaves no room beside {places}", hint)
        if self.invert and self.output_mode != "int":
            yield "invert", complaint("invert makes values of numbers, which only output_mode: int does")
        if self.invert and self.vocabulary is None:
            yield "invert", complaint("invert needs the vocabulary, for it reads numbers and can't learn values")
        if self.idf_weights is not None and (self.output_mode != "tf_idf" or self.vocabulary is None):
            yield "idf_weights", complaint("idf_weights go with output_mode: tf_idf and a vocabulary")
        if self.vocabulary is not None and self.output_mode == "tf_idf" and self.idf_weights is None:
            yield "vocabulary", complaint("a vocabulary with output_mode: tf_idf needs idf_weights, one a token")
        if isinstance(self.vocabulary, tuple):
            yield from self.vocabulary_mistakes()

    def vocabulary_mistakes(self) -> Iterable[tuple[str, PydanticCustomError]]:
        """(option, what is wrong) about the vocabulary itself."""
        said = problem_of(self.tokens(), self.mask_token, self.oov_token if self.invert else None)
        if said:
            yield "vocabulary", complaint(said, "each value once", code="vocabulary")
        size = self.start() + len(self.tokens())
        if self.max_tokens is not None and size > self.max_tokens:
            message = f"the vocabulary has {size} places, special tokens included, more than max_tokens"
            yield "max_tokens", complaint(f"{message} {self.max_tokens}", f"{size} or more")
        if self.idf_weights is not None and len(self.idf_weights) != len(self.vocabulary):
            message = f"expected {len(self.vocabulary)} idf_weights, one a token of the vocabulary"
            yield "idf_weights", complaint(f"{message}, found {len(self.idf_weights)}")

    def start(self) -> int:
        """The place of the vocabulary's first token."""
        return self._oov_start() + self.num_oov_indices

    def _oov_start(self) -> int:
        return int(self.mask_token is not None and self.output_mode == "int")

    def _special(self) -> tuple[Any, ...]:
        return (self.mask_token,) * self._oov_start() + (self.oov_token,) * self.num_oov_indices

    def _leads(self) -> bool:
        """Whether the vocabulary given begins with its special tokens."""
        return tuple(self.vocabulary[: self.start()]) == self._special()

    def tokens(self) -> tuple[Any, ...]:
        """The vocabulary without special tokens."""
        return tuple(self.vocabulary[self.start() :] if self._leads() else self.vocabulary)

    def depth(self) -> int | None:
        if self.pad_to_max_tokens:
            return self.max_tokens
        return None if not isinstance(self.vocabulary, tuple) else self.start() + len(self.tokens())

    def names(self) -> tuple[str, ...] | None:
        if not isinstance(self.vocabulary, tuple) or self.invert:
            return None
        oov = [str(self.oov_token)] * min(self.num_oov_indices, 1)
        oov += [f"{self.oov_token} {n + 1}" for n in range(1, self.num_oov_indices)]
        mask = [str(self.mask_token)] * self._oov_start()
        return (*mask, *oov, *map(str, self.tokens()))

    def weights(self) -> ndarray:
        """The weight of each place in tf_idf: out-of-vocabulary places have the mean, padding has 0."""
        given = np.asarray(self.idf_weights, "float64")
        front = 0 if self._leads() else self.start()
        every = np.concatenate([np.full(front, given.mean()), given])
        return np.pad(every, (0, (self.depth() or 0) - len(every))).astype("float32")

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        counted = super().forward(w, x)
        return counted * torch.from_numpy(self.weights()).to(x.device) if self.output_mode == "tf_idf" else counted

    def forward_ragged(self, w: Weights, values: Tensor, offsets: Tensor) -> Tensor:
        counted = super().forward_ragged(w, values, offsets)
        if self.output_mode != "tf_idf":
            return counted
        return counted * torch.from_numpy(self.weights()).to(values.device)

    def learned_from(self, tally: Tally) -> Self:
        """The layer with the vocabulary of what was counted."""
        special = {t for t in (self.mask_token, self.oov_token) if t is not None}
        most = None if self.max_tokens is None else self.max_tokens - self.start()
        tokens = tally.most_frequent(special, most)
        found: dict[str, Any] = {"vocabulary": tuple(tokens)}
        if self.output_mode == "tf_idf":
            found["idf_weights"] = tuple(float(np.float32(v)) for v in tally.idf(tokens))
        return self.model_copy(update=found)

    def learned(self, batches: Iterable[RawRows]) -> Self:
        tally = Tally(self.output_mode == "tf_idf")
        for batch in batches:
            values, offsets = parts(batch)
            flat = self.values_of(values)
            if offsets is None:
                width = max(1, len(flat) // max(1, len(values)))
                offsets = range(0, len(flat) + 1, width)
            tally.add(flat[a:b] for a, b in itertools.pairwise(offsets))
        return self.learned_from(tally)

    def values_of(self, values: Any) -> list[Any]:
        """Raw values one after another, of the kind that the vocabulary holds."""
        raise NotImplementedError

    def bucket(self, values: list[Any]) -> ndarray:
        """The number of the out-of-vocabulary place of each value."""
        raise NotImplementedError

    def reader(self) -> Callable[[RawRows], RawRows]:
        if self.invert:
            return self._inverse()
        table = {token: self.start() + i for i, token in enumerate(self.tokens())}
        if self.mask_token is not None:
            table[self.mask_token] = 0 if self.output_mode == "int" else DROPPED

        def read(rows: RawRows) -> RawRows:
            values, offsets = parts(rows)
            flat = self.values_of(values)
            return like(self.placed(flat, table).reshape(np.shape(values)), offsets)

        return read

    def placed(self, values: list[Any], table: dict[Any, int]) -> ndarray:
        """The number of each value.

        Raises:
            UnknownValue: one has no place.
        """
        ids = np.fromiter((table.get(v, UNKNOWN) for v in values), "int64", len(values))
        unknown = np.flatnonzero(ids == UNKNOWN)
        if len(unknown):
            if not self.num_oov_indices:
                raise self._unknown(values[unknown[0]], int(unknown[0]))
            ids[unknown] = self._oov_start() + self.bucket([values[i] for i in unknown])
        return ids

    def _unknown(self, value: Any, place: int) -> UnknownValue:
        tokens = [str(t) for t in self.tokens()]
        shown = ", ".join(tokens[:8]) + (", …" if len(tokens) > 8 else "")
        hint = nearest(str(value), tokens) or f"the vocabulary holds {shown}"
        what = f'"{value}"' if isinstance(value, str) else str(value)
        message = f"{what} is not in the vocabulary, and num_oov_indices: 0 leaves no place for others"
        return UnknownValue(message, place, hint)

    def _inverse(self) -> Callable[[RawRows], RawRows]:
        table: dict[int, Any] = {self.start() + i: token for i, token in enumerate(self.tokens())}
        if self.mask_token is not None:
            table[0] = self.mask_token

        def read(rows: RawRows) -> RawRows:
            values, offsets = parts(rows)
            flat = integers_of(values, type(self).__name__).reshape(-1).tolist()
            made = [table.get(v, self.oov_token) for v in flat]
            out = np.empty(len(made), object if self.makes_text() else "int64")
            out[:] = made
            return like(out.reshape(np.shape(values)), offsets)

        return read
