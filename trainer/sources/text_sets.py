"""imdb and reuters: reviews and newswires as word numbers, with the rules of Keras's loaders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.errors import DataError, FileError
from trainer.lazy import np
from trainer.options import NonNegativeInt, PositiveInt, ProperFraction
from trainer.sources.arrays import read_npz
from trainer.sources.base import LoaderSeed, Places, Source
from trainer.sources.columns import Field, Ragged, Rows, Table
from trainer.sources.downloading import Published, digest
from trainer.sources.finding import find

if TYPE_CHECKING:
    import numpy

MOST_WORDS = 10_000_000
"Numbers of words above this in a word index are damage."
KERAS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"


class WordSet(Source, abstract=True):
    """Texts as lists of word numbers (the most frequent word is 1 before `index_from` is added) with a class each."""

    published: ClassVar[Published]
    classes: ClassVar[tuple[str, ...] | None] = None

    num_words: PositiveInt | None = None
    "Keep word numbers below this; rarer ones become oov_char."
    skip_top: NonNegativeInt = 0
    "Word numbers below this become oov_char too."
    maxlen: PositiveInt | None = None
    "Leave out texts of this length or longer."
    seed: LoaderSeed = 113
    "Seed of the shuffling (numpy's RandomState, as Keras's loader does it)."
    start_char: NonNegativeInt | None = 1
    "Number that begins each text; null for none."
    oov_char: NonNegativeInt | None = 2
    "Number that stands for words left out; null drops them."
    index_from: NonNegativeInt = 3
    "Added to every word number."

    def fields(self) -> dict[str, Field]:
        return {"words": Field((None,), "ragged"), "label": Field((), "int64", self.classes)}

    @property
    def stem(self) -> str:
        """Name of the set in file names."""
        return type(self).recipe_name()

    def numbered(self, words: Ragged, labels: numpy.ndarray, order: numpy.ndarray) -> tuple[Ragged, numpy.ndarray]:
        """Texts and labels in an order, with start mark and offset, the long ones left out.

        Raises:
            DataError: none is short enough.
            FileError: negative numbers, or ones beyond any vocabulary.
        """
        if len(words.values) and not 0 <= words.values.min() <= words.values.max() <= MOST_WORDS:
            raise FileError(f"{self.stem}: the texts hold what is no word number")
        mark = int(self.start_char is not None)
        lengths = words.lengths()[order] + mark
        if self.maxlen is not None:
            kept = np.flatnonzero(lengths < self.maxlen)
            if not len(kept):
                raise DataError(f"no text is shorter than maxlen {self.maxlen}", hint="a larger maxlen")
            order, lengths = order[kept], lengths[kept]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype("int64")
        # Half the memory of int64 where every number fits.
        most = max(MOST_WORDS + self.index_from, self.start_char or 0, self.oov_char or 0)
        values = np.empty(offsets[-1], "int32" if most < 1 << 31 else "int64")
        words.copy(words.offsets[order], lengths - mark, values, offsets[:-1] + mark)
        values += self.index_from
        if mark:
            values[offsets[:-1]] = self.start_char
        return Ragged(values, offsets), labels[order]

    def limited(self, words: Ragged, most: int) -> Ragged:
        """Word numbers outside skip_top to `most` replaced or dropped; `words` itself is changed."""
        kept = (words.values >= self.skip_top) & (words.values < most)
        if self.oov_char is not None:
            np.copyto(words.values, self.oov_char, where=~kept)
            return words
        counts = np.concatenate([[0], np.cumsum(kept)])
        return Ragged(words.values[kept], counts[words.offsets])

    def vocabulary(self, places: Places) -> tuple[str, ...] | None:
        """Word of each number, None without the word index."""
        try:
            path = find(Places(places.recipe, places.data, False), f"{self.stem}_word_index.json")
            index = json.loads(path.read_text(encoding="utf-8"))
        except (FileError, OSError, ValueError, RecursionError):
            return None
        if not isinstance(index, dict) or not all(isinstance(n, int) for n in index.values()):
            return None
        last = max((n for n in index.values() if n < MOST_WORDS), default=0) + self.index_from
        words = ["<pad>", "<start>", "<unknown>", *(f"<{n}>" for n in range(3, self.index_from + 1))]
        words = (words + [""] * (last + 1))[: last + 1]
        for word, number in index.items():
            if 0 <= number < MOST_WORDS:
                words[number + self.index_from] = word
        return tuple(words)

    def table(self, places: Places, path: Path, train: tuple[Any, Any], test: tuple[Any, Any]) -> Table:
        """The opened source."""
        rows = [Rows({"words": w, "label": np.asarray(y, "int64")}) for w, y in (train, test)]
        return Table(
            rows[0],
            rows[1] if len(rows[1]) else None,
            self.fields(),
            {path.name: digest(path)},
            self.vocabulary(places),
        )


def shuffled(random: Any, count: int) -> numpy.ndarray:
    """The order that Keras's loader draws for so many rows."""
    order = np.arange(count)
    random.shuffle(order)
    return order


def texts(arrays: dict[str, Any], path: Path, x: str, y: str) -> tuple[Ragged, numpy.ndarray]:
    """The texts and their labels under these names.

    Raises:
        FileError: one is not there, or they are no word numbers and a class number each.
    """
    missing = [n for n in (x, y) if n not in arrays]
    if missing:
        raise FileError(f"{path}: expected an array {missing[0]}, found {', '.join(arrays)}")
    rows, labels = arrays[x], np.asarray(arrays[y])
    if not isinstance(rows, Ragged) or not len(rows):
        raise FileError(f"{path}: expected {x} to hold lists of word numbers")
    if labels.dtype.kind not in "iu" or labels.shape != (len(rows),):
        raise FileError(f"{path}: expected {len(rows)} integers in {y}, found {labels.dtype} {labels.shape}")
    return rows, labels


class Imdb(WordSet):
    """25,000 + 25,000 film reviews as word numbers (Maas et al., 2011); label 1 is positive."""

    classes = ("negative", "positive")
    published = Published(KERAS + "imdb.npz", "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f")

    def open(self, places: Places) -> Table:
        path = find(places, "imdb.npz", self.published)
        arrays = read_npz(path, objects=True)
        random = np.random.RandomState(self.seed)
        both = [texts(arrays, path, f"x_{part}", f"y_{part}") for part in ("train", "test")]
        parts = [self.numbered(words, labels, shuffled(random, len(words))) for words, labels in both]
        most = self.num_words or max(int(w.values.max(initial=0)) for w, _ in parts)
        return self.table(places, path, *[(self.limited(w, most), y) for w, y in parts])


class Reuters(WordSet):
    """11,228 newswires as word numbers, 46 topics (Reuters-21578)."""

    keras_order = "num_words skip_top maxlen test_split"

    test_split: ProperFraction = 0.2
    "The last share of the shuffled texts is the test part."

    classes = (
        "cocoa", "grain", "veg-oil", "earn", "acq", "wheat", "copper", "housing", "money-supply", "coffee", "sugar",
        "trade", "reserves", "ship", "cotton", "carcass", "crude", "nat-gas", "cpi", "money-fx", "interest", "gnp",
        "meal-feed", "alum", "oilseed", "gold", "tin", "strategic-metal", "livestock", "retail", "ipi", "iron-steel",
        "rubber", "heat", "jobs", "lei", "bop", "zinc", "orange", "pet-chem", "dlr", "gas", "silver", "wpi", "hog",
        "lead",
    )  # fmt: skip
    published = Published(KERAS + "reuters.npz", "d6586e694ee56d7a4e65172e12b3e987c03096cb01eab99753921ef915959916")

    def open(self, places: Places) -> Table:
        path = find(places, "reuters.npz", self.published)
        random = np.random.RandomState(self.seed)
        words, topics = texts(read_npz(path, objects=True), path, "x", "y")
        words, topics = self.numbered(words, topics, shuffled(random, len(words)))
        words = self.limited(words, self.num_words or int(words.values.max(initial=0)))
        at = int(len(words) * (1 - self.test_split))
        parts = [slice(0, at), slice(at, None)]
        return self.table(places, path, *[(words.take(p), topics[p]) for p in parts])
