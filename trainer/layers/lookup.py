"""StringLookup and IntegerLookup: values of a vocabulary as numbers or vectors, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic_core import PydanticCustomError

from trainer.layers.hashes import buckets
from trainer.layers.host import Dense, integers_of, texts_of
from trainer.layers.index_lookup import IndexLookup
from trainer.layers.vocabulary import IdfWeights, Integers, MaxTokens, Salt, Texts
from trainer.lazy import np
from trainer.options import Bool, Int, NonNegativeInt, Str, complaint

if TYPE_CHECKING:
    from numpy import ndarray


class StringLookup(IndexLookup):
    """Texts to their place in a vocabulary, or to vectors of its size; the vocabulary is given or learned.

    A learned vocabulary holds the texts of the training rows, the most frequent first. Stands before the model.
    https://keras.io/api/layers/preprocessing_layers/categorical/string_lookup/

    Shape: (batch, ...) -> (batch, ...) for int; (batch, ..., places) for one_hot; (batch, texts) -> (batch, places)
    """

    max_tokens: MaxTokens | None = None
    "Most places of the vocabulary, special tokens included; rarer texts count as out of vocabulary."
    num_oov_indices: NonNegativeInt = 1
    "Places for texts out of the vocabulary; several are chosen by hash, and with 0 such texts are refused."
    mask_token: Str | None = None
    "Text that stands for nothing: number 0, or no entry in a vector."
    oov_token: Str = "[UNK]"
    "Name of a text out of the vocabulary, and what invert makes of a number without one."
    vocabulary: Texts | None = None
    "The texts in order, or a file beside the recipe with one a line; by default those of the training rows."
    idf_weights: IdfWeights | None = None
    "Weight of each text of a given vocabulary in tf_idf."
    invert: Bool = False
    "Whether numbers are turned back into texts."
    output_mode: Literal["int", "one_hot", "multi_hot", "count", "tf_idf"] = "int"
    "int: the place; one_hot: a vector for each text; multi_hot, count, tf_idf: one for each row."
    pad_to_max_tokens: Bool = False
    "Whether vectors have max_tokens entries even when the vocabulary is smaller."
    sparse: Dense = False
    "Keras's switch for sparse tensors."
    encoding: Str = "utf-8"
    "Encoding of texts that come as bytes, and of a vocabulary file."
    salt: Salt | None = None
    "Key of SipHash for several out-of-vocabulary places; by default they are chosen by FarmHash."

    reads = ("text",)
    keras_order = "... name salt"

    def makes_text(self) -> bool:
        return self.invert

    def values_of(self, values: Any) -> list[str]:
        return texts_of(values, "StringLookup", self.encoding)

    def bucket(self, values: list[str]) -> ndarray:
        if self.num_oov_indices == 1:
            return np.zeros(len(values), "int64")
        return buckets([v.encode("utf-8", "surrogatepass") for v in values], self.num_oov_indices, self.salt)


class IntegerLookup(IndexLookup):
    """Whole numbers to their place in a vocabulary, or to vectors of its size; the vocabulary is given or learned.

    As StringLookup, for integers. Stands before the model.
    https://keras.io/api/layers/preprocessing_layers/categorical/integer_lookup/

    Shape: (batch, ...) -> (batch, ...) for int; (batch, ..., places) for one_hot; (batch, ids) -> (batch, places)
    """

    max_tokens: MaxTokens | None = None
    "Most places of the vocabulary, special tokens included; rarer integers count as out of vocabulary."
    num_oov_indices: NonNegativeInt = 1
    "Places for integers out of the vocabulary (several: see oov_method); with 0 such integers are refused."
    mask_token: Int | None = None
    "Integer that stands for nothing: number 0, or no entry in a vector."
    oov_token: Int = -1
    "What invert makes of a number out of the vocabulary."
    vocabulary: Integers | None = None
    "The integers in order, or a file beside the recipe with one a line; by default those of the training rows."
    vocabulary_dtype: Literal["int64"] = "int64"
    "Keras's type of the vocabulary, of which there is one."
    idf_weights: IdfWeights | None = None
    "Weight of each integer of a given vocabulary in tf_idf."
    invert: Bool = False
    "Whether places are turned back into integers of the vocabulary."
    output_mode: Literal["int", "one_hot", "multi_hot", "count", "tf_idf"] = "int"
    "int: the place; one_hot: a vector for each integer; multi_hot, count, tf_idf: one for each row."
    sparse: Dense = False
    "Keras's switch for sparse tensors."
    pad_to_max_tokens: Bool = False
    "Whether vectors have max_tokens entries even when the vocabulary is smaller."
    oov_method: Literal["floormod", "farmhash"] = "floormod"
    "How one of several out-of-vocabulary places is chosen: the remainder of the integer, or a hash of its digits."
    salt: Salt | None = None
    "Key of SipHash, which farmhash then uses."

    reads = ("integer",)

    def _mistakes(self) -> Iterable[tuple[str, PydanticCustomError]]:
        if self.salt is not None and self.oov_method != "farmhash":
            yield "salt", complaint("salt goes with oov_method: farmhash")
        yield from super()._mistakes()

    def values_of(self, values: Any) -> list[int]:
        return integers_of(values, "IntegerLookup").reshape(-1).tolist()

    def bucket(self, values: list[int]) -> ndarray:
        if self.oov_method == "floormod":
            return np.asarray(values, "int64") % self.num_oov_indices
        if self.num_oov_indices == 1:
            return np.zeros(len(values), "int64")
        return buckets([str(v).encode() for v in values], self.num_oov_indices, self.salt)

    def with_tokens(self, tokens: tuple[Any, ...]) -> Self:
        odd = next((n for n, t in enumerate(tokens, 1) if not t.strip().lstrip("+-").isdecimal()), None)
        if odd is not None:
            raise ValueError(f"line {odd}: expected an integer, found {tokens[odd - 1][:40]!r}")
        return super().with_tokens(tuple(int(t) for t in tokens))
