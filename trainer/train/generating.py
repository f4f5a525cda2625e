"""A run that learned what comes next in a text, put to writing: a window in, the next symbol out, and on from there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trainer.errors import RunError
from trainer.layers.encoding import CategoryEncoding
from trainer.recipe.dataset import Feature
from trainer.sources.text_windows import UNKNOWN, TextWindows, encode
from trainer.streams import stream
from trainer.train.devices import set_threads
from trainer.train.predictions import probabilities
from trainer.train.use import OpenRun, tempered

LEAST_TEMPERATURE = 1e-300
"Below it the exponents are beyond float64; the likeliest symbol is then drawn surely, as at 0."


class Writer:
    """Continues a text by the model of a run on windows over a text (source `text_windows`).

    A symbol is a character or a word. The number of the unknown, which `num_words` makes, is never written.

    Raises:
        RunError: the model does not predict the next symbol, or the text has changed since the run.
    """

    def __init__(self, run: OpenRun):
        self.run, self.source, self.words = run, *text_of(run)
        check_model(run, self.source, self.words)
        # One window is little work, and its sums are then the same however many cores there are.
        set_threads(0)
        # Refuses a text that has changed: its symbols would have other numbers.
        self._windows = run.rows("train").column("window")
        self._known = np.asarray([n for n, word in enumerate(self.words) if word != UNKNOWN])

    @property
    def between(self) -> str:
        """What stands between two symbols."""
        return "" if self.source.level == "char" else " "

    def text(self, numbers: np.ndarray) -> str:
        """What numbers of symbols stand for."""
        return self.between.join(self.words[n] for n in numbers.tolist())

    def begin(self, prompt: str) -> np.ndarray:
        """The window that a prompt ends: its last maxlen symbols, or less of them behind what the text begins with.

        A model was shown whole windows of text alone, so it is shown nothing else here: for the recipe republic_lstm,
        what follows four characters has a loss of 1.9 behind that beginning, and of 5.7 behind line ends.

        Raises:
            DataError: the prompt holds what the text does not; names it.
        """
        found = encode(prompt, self.words, self.source.level, self.source.lower)[-self.source.maxlen :]
        return np.concatenate([self._windows[0][: self.source.maxlen - len(found)], found])

    def drawn(self, seed: int) -> str:
        """A prompt of one window, from anywhere in the training rows."""
        place = int(stream(seed, "generate", "prompt").integers(len(self._windows)))
        return self.text(self._windows[place])

    def chances(self, window: np.ndarray) -> np.ndarray:
        """Probability of each symbol to come after a window: (symbols,), float64.

        Raises:
            RunError: the model gives no finite numbers.
        """
        # A stateful model reads batches of its own size, and a window is whole: nothing came before it.
        network = self.run.built.network
        network.reset_states()
        (outputs,) = self.run.predict([np.repeat(window[None], network.batch_size or 1, 0)]).values()
        found = probabilities(self.run, outputs)[0].astype("float64")
        if not np.isfinite(found).all():
            raise RunError(f"the model of the run {self.run.directory.label} gives no numbers: its training diverged")
        return found

    def write(self, prompt: str, length: int, temperature: float = 1.0, seed: int = 0) -> Iterator[str]:
        """`length` symbols after a prompt, one by one; words come with the space before them.

        A symbol is drawn with probability p_i^(1 / temperature) / sum_j p_j^(1 / temperature), as Keras's example of
        text generation draws; at temperature 0 the likeliest is taken. The n-th draw depends on the seed and n alone.
        https://keras.io/examples/generative/lstm_character_level_text_generation/

        Raises:
            DataError: the prompt holds what the text does not; names it.
        """
        return self._symbols(self.begin(prompt), stream(seed, "generate").random(length), temperature)

    def _symbols(self, window: np.ndarray, points: np.ndarray, temperature: float) -> Iterator[str]:
        for point in points.tolist():
            chances = self.chances(window)[self._known]
            number = self._known[chosen(chances, temperature, point)]
            window[:-1], window[-1] = window[1:], number
            yield self.between + self.words[number]


def chosen(chances: np.ndarray, temperature: float, point: float) -> int:
    """The symbol on which a point of [0, 1) falls when the tempered probabilities lie in a row."""
    if temperature < LEAST_TEMPERATURE:
        return int(chances.argmax())
    ends = np.cumsum(tempered(chances, temperature))
    # Rounding may put a point next to 1 on the end of the row.
    return min(int(np.searchsorted(ends, point * ends[-1], side="right")), len(ends) - 1)


def text_of(run: OpenRun) -> tuple[TextWindows, tuple[str, ...]]:
    """(the source, what its numbers stand for) of a run on windows over a text.

    Raises:
        RunError: its rows come from elsewhere.
    """
    source = run.recipe.dataset.source
    if not isinstance(source, TextWindows):
        raise _refusal(run, f"its rows come from {source.recipe_name()}, not from windows over a text")
    return source, run.table.words or ()


def check_model(run: OpenRun, source: TextWindows, words: tuple[str, ...]) -> None:
    """Refuse a model that does not go from windows to the number of the next symbol.

    Raises:
        RunError: says what the model does instead.
    """
    inputs, targets = run.built.outline.inputs, run.built.outline.targets
    reads, learns = ([known.feature.field for known in parts.values()] for parts in (inputs, targets))
    if reads != ["window"] or learns != ["next"]:
        told = f"it goes from {_listed(reads)} to {_listed(learns)}, not from window to next"
        raise _refusal(run, told, len(words))
    (target,) = (known.feature for known in targets.values())
    shape = run.built.graph.output_shape
    if not run.is_classifier() or len(shape) != 2 or (shape[1] or 0) < len(words) or not _keeps_numbers(target):
        symbols = f"{len(words)} {'characters' if source.level == 'char' else 'words'}"
        raise _refusal(run, f"its output is not one probability for each of the {symbols}", len(words))


def _keeps_numbers(target: Feature) -> bool:
    """Whether place n of the output stands for number n of the source."""
    steps = target.preprocess
    return all(isinstance(step, CategoryEncoding) and step.output_mode == "one_hot" for step in steps)


def _listed(fields: list[str | None]) -> str:
    return ", ".join(field or "columns" for field in fields)


def _refusal(run: OpenRun, why: str, symbols: int | None = None) -> RunError:
    units = "as many units as there are symbols" if symbols is None else f"{symbols} units"
    hint = (
        "generate needs a run with `source: {text_windows: {path: book.txt}}`, window as its input and next as its "
        f"target, a last layer of {units} with softmax, and the loss sparse_categorical_crossentropy"
    )
    return RunError(f"the run {run.directory.label} does not predict how a text goes on: {why}", hint=hint)
