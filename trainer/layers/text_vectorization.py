"""TextVectorization: texts to word numbers or to vectors over a vocabulary."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import model_validator

from trainer.layers.base import Weights
from trainer.layers.host import Dense, HostLayer, RawRows, never, texts_of
from trainer.layers.lookup import StringLookup
from trainer.layers.plan import Plan
from trainer.layers.vocabulary import IdfWeights, MaxTokens, Tally, Texts, Widths
from trainer.lazy import np, torch
from trainer.options import Bool, PositiveInt, Str, complaint, raise_all
from trainer.shapes import Shape, text

if TYPE_CHECKING:
    from torch import Tensor

PUNCTUATION = string.punctuation.encode()
NotRagged = Annotated[bool, never("ragged tensors exist with TensorFlow alone, in Keras too; rows are padded")]


class TextVectorization(HostLayer):
    """Texts to rows of word numbers, or to vectors over a vocabulary that is given or learned from the training rows.

    Each text is standardized, split, joined to n-grams, and looked up: 0 is padding (int only), then comes the place
    of words out of the vocabulary, then the vocabulary, the most frequent word first. As in Keras, only the letters A
    to Z become small, and only ASCII punctuation and white space count. Stands before the model.
    https://keras.io/api/layers/preprocessing_layers/text/text_vectorization/

    Shape: (batch, 1) -> (batch, words) for int; (batch, 1) -> (batch, places) otherwise
    """

    max_tokens: MaxTokens | None = None
    "Most places of the vocabulary, padding and the one for unknown words included; rarer words are unknown."
    standardize: Literal["lower_and_strip_punctuation", "lower", "strip_punctuation"] | None = (
        "lower_and_strip_punctuation"
    )
    "What is done to a text first; null: nothing."
    split: Literal["whitespace", "character"] | None = "whitespace"
    "Where a text is cut into words; null: each text of a row is one word."
    ngrams: Widths | None = None
    "Words in a row that count as one: 2 stands for single words and pairs, [2, 3] for pairs and threes."
    output_mode: Literal["int", "multi_hot", "count", "tf_idf"] = "int"
    "int: the number of each word; multi_hot, count, tf_idf: a vector for each text."
    output_sequence_length: PositiveInt | None = None
    "Length of every row of numbers (int only): longer ones are cut at the end; by default the longest of the batch."
    pad_to_max_tokens: Bool = False
    "Whether vectors have max_tokens entries even when the vocabulary is smaller."
    vocabulary: Texts | None = None
    "The words in order, or a file beside the recipe with one a line; by default those of the training rows."
    idf_weights: IdfWeights | None = None
    "Weight of each word of a given vocabulary in tf_idf."
    sparse: Dense = False
    "Keras's switch for sparse tensors."
    ragged: NotRagged = False
    "Keras's switch for ragged tensors."
    encoding: Str = "utf-8"
    "Encoding of texts that come as bytes, and of a vocabulary file."

    reads = ("text",)
    learns = ("vocabulary", "idf_weights")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.output_mode != "int" and self.output_sequence_length is not None:
            message = "output_sequence_length goes with output_mode: int; a vector has the vocabulary's length"
            raise_all([(complaint(message), ("output_sequence_length",))])
        self.lookup()
        return self

    def lookup(self) -> StringLookup:
        """The words' lookup, which has these options of ours.

        Raises:
            ValidationError: they don't fit together.
        """
        if isinstance(self.vocabulary, str):
            return StringLookup(max_tokens=self.max_tokens, pad_to_max_tokens=self.pad_to_max_tokens, mask_token="")
        options = {n: getattr(self, n) for n in StringLookup.model_fields if n in type(self).model_fields}
        return StringLookup.read({**options, "mask_token": "", "name": None})

    def encodes(self) -> bool:
        return True

    def depth(self) -> int | None:
        return self.lookup().depth()

    def build(self, plan: Plan, shape: Shape) -> Shape:
        if self.unread():
            raise ValueError(f"the vocabulary file {self.unread()} has not been read")
        if self.split is not None and len(shape) != 1 and shape[1:] != (1,):
            hint = "split: null takes rows of words"
            raise ValueError(f"expected one text a row, (batch, 1), found {text(shape)}; {hint}")
        if self.split is None and len(shape) != 2:
            raise ValueError(f"split: null expects rows of words, (batch, words), found {text(shape)}")
        if self.output_mode == "int":
            return *shape[:1], self.output_sequence_length
        return *shape[:1], self.depth()

    def learned(self, batches: Iterable[RawRows]) -> Self:
        tally = Tally(self.output_mode == "tf_idf")
        for batch in batches:
            tally.add(self.words(batch))
        for counter in (tally.tokens, tally.found_in):
            found = {word.decode("utf-8", "surrogatepass"): times for word, times in counter.items()}
            counter.clear()
            counter.update(found)
        made = self.lookup().learned_from(tally)
        return self.model_copy(update={"vocabulary": made.vocabulary, "idf_weights": made.idf_weights})

    def words(self, rows: RawRows) -> list[list[bytes]]:
        """The words of each row of texts, n-grams included."""
        texts = texts_of(rows, "TextVectorization", self.encoding)
        cleaned = [self._standardized(t.encode("utf-8", "surrogatepass")) for t in texts]
        if self.split == "whitespace":
            words = [t.split() for t in cleaned]
        elif self.split == "character":
            words = [[c.encode("utf-8", "surrogatepass") for c in t.decode("utf-8", "surrogatepass")] for t in cleaned]
        else:
            width = np.shape(rows)[1]
            words = [cleaned[i : i + width] for i in range(0, len(cleaned), width)]
        return words if self.ngrams is None else [self._joined(row) for row in words]

    def _standardized(self, value: bytes) -> bytes:
        if self.standardize in ("lower", "lower_and_strip_punctuation"):
            value = value.lower()
        if self.standardize in ("strip_punctuation", "lower_and_strip_punctuation"):
            value = value.translate(None, PUNCTUATION)
        return value

    def _joined(self, row: list[bytes]) -> list[bytes]:
        widths = range(1, self.ngrams + 1) if isinstance(self.ngrams, int) else self.ngrams or ()
        return [b" ".join(row[i : i + n]) for n in widths for i in range(len(row) - n + 1)]

    def reader(self) -> Callable[[RawRows], RawRows]:
        lookup = self.lookup()
        dropped = 0 if self.output_mode == "int" else -1
        table = {word.encode("utf-8", "surrogatepass"): lookup.start() + i for i, word in enumerate(lookup.tokens())}
        table[b""] = dropped
        unknown = lookup.start() - 1

        def read(rows: RawRows) -> RawRows:
            words = self.words(rows)
            offsets = np.concatenate([[0], np.cumsum([len(row) for row in words], dtype="int64")]).astype("int64")
            flat = (table.get(word, unknown) for row in words for word in row)
            return np.fromiter(flat, "int64", int(offsets[-1])), offsets

        return read

    def forward_ragged(self, w: Weights, values: Tensor, offsets: Tensor) -> Tensor:
        if self.output_mode != "int":
            return self.lookup().forward_ragged(w, values, offsets)
        longest = int(offsets.diff().max()) if len(offsets) > 1 else 0
        width = longest if self.output_sequence_length is None else self.output_sequence_length
        kept = offsets.diff().clamp(max=width)
        inside = torch.arange(width, device=values.device) < kept[:, None]
        out = values.new_zeros(len(kept), width)
        within = torch.arange(len(values), device=values.device) - offsets[:-1].repeat_interleave(offsets.diff())
        out[inside] = values[within < width]
        return out
