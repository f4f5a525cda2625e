"""From the steps of a CTC model to sequences, as keras.ops.ctc_decode does it. https://keras.io/api/ops/nn/

Outputs are raw scores of shape (batch, steps, classes), one class being the blank between symbols. A labelling is what
is left of a class for each step when runs of one class are joined and blanks dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from trainer.errors import RecipeError
from trainer.metrics.sequence import collapsed

if TYPE_CHECKING:
    from numpy import ndarray

MOST_NODES = 1 << 24
"Entries of the tree of labellings that are held at a time; more rows are searched one part after the other."


class Decoded(NamedTuple):
    """The best labellings of each row."""

    paths: ndarray
    "Class numbers, -1 behind the last; (paths, batch, steps)."
    scores: ndarray
    "(batch, paths)"


def greedy(
    outputs: ndarray, lengths: ndarray | None = None, *, merge_repeated: bool = True, mask_index: int = 0
) -> Decoded:
    """The labelling of the likeliest class of each step; its score is minus the sum of those classes' outputs.

    Steps of a row from its length on are not read.
    """
    unread = _unread(outputs, lengths)
    classes = np.where(unread, mask_index, outputs.argmax(-1))
    best = np.where(unread, 0, outputs.max(-1))
    paths = collapsed(torch.from_numpy(classes), blank=mask_index, merge_repeated=merge_repeated)
    return Decoded(paths.numpy()[None], -best.sum(1, keepdims=True))


def beam_search(
    outputs: ndarray,
    lengths: ndarray | None = None,
    *,
    beam_width: int = 100,
    top_paths: int = 1,
    mask_index: int = 0,
) -> Decoded:
    """The likeliest labellings, each with the log of its probability, the sum over all ways to stretch it to the steps.

    After each step the `beam_width` likeliest beginnings are kept. A row that has fewer labellings than `top_paths`
    is filled up with empty ones of score -inf. Graves and Jaitly, 2014.

    Raises:
        RecipeError: `top_paths` is above `beam_width`.
    """
    if top_paths > beam_width:
        raise RecipeError(f"expected at most {beam_width} paths, the width of the beam, found {top_paths}")
    rows, steps, classes = outputs.shape
    log_p = _log_softmax(outputs.astype("float64"))
    # Behind its end a row surely says blank, which changes neither a labelling nor its probability.
    log_p[_unread(outputs, lengths)] = np.where(np.arange(classes) == mask_index, 0.0, -np.inf)
    part = max(1, MOST_NODES // ((steps * beam_width + 2) * classes))
    found = [_search(log_p[i : i + part], beam_width, top_paths, mask_index) for i in range(0, rows, part)]
    if not found:
        return Decoded(np.zeros((top_paths, 0, steps), "int64"), np.zeros((0, top_paths)))
    return Decoded(np.concatenate([f.paths for f in found], 1), np.concatenate([f.scores for f in found]))


def _unread(outputs: ndarray, lengths: ndarray | None) -> ndarray:
    rows, steps, _ = outputs.shape
    return np.arange(steps) >= (np.full(rows, steps) if lengths is None else np.asarray(lengths))[:, None]


def _log_softmax(x: ndarray) -> ndarray:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def _search(log_p: ndarray, beam_width: int, top_paths: int, blank: int) -> Decoded:
    rows, steps, classes = log_p.shape
    tree = _Tree(rows, steps * beam_width + 2, classes, blank)
    beam = _Beam.empty(tree, rows, beam_width)
    for step in range(steps):
        beam = beam.after(log_p[:, step], tree, 1 + step * beam_width)
    total = np.logaddexp(beam.in_symbol, beam.in_blank)
    best = np.argsort(-total, axis=1, kind="stable")[:, :top_paths]
    paths = tree.labellings(np.take_along_axis(beam.nodes, best, 1), steps)
    return Decoded(np.moveaxis(paths, 1, 0), np.take_along_axis(total, best, 1))


class _Tree:
    """Every beginning that was ever kept, for each row: a node is its parent and one more symbol.

    Node 0 is the empty labelling; the last node stands for none.
    """

    def __init__(self, rows: int, nodes: int, classes: int, blank: int):
        self.none, self.blank = nodes - 1, blank
        self.child = np.zeros((rows, nodes, classes), "int32")
        self.parent = np.full((rows, nodes), self.none, "int32")
        self.symbol = np.full((rows, nodes), blank, "int32")
        self.place = np.full((rows, nodes), -1, "int32")
        "Where a node stands in the beam; -1 when it does not."
        self.row = np.arange(rows)[:, None]

    def move(self, before: ndarray, after: ndarray) -> None:
        """The beam holds other nodes now."""
        self.place[self.row, before] = -1
        self.place[self.row, after] = np.arange(after.shape[1])
        self.place[:, self.none] = -1

    def grow(self, nodes: ndarray, symbols: ndarray, wanted: ndarray, first: int) -> ndarray:
        """The nodes with one more symbol where it is wanted; numbers from `first` on are free for those not yet known.

        A beginning that left the beam keeps its node, so that it is the same one when it comes back.
        """
        known = self.child[self.row, nodes, symbols]
        at, where = np.nonzero(wanted & (known == 0))
        fresh = first + where
        self.child[at, nodes[at, where], symbols[at, where]] = fresh
        self.parent[at, fresh], self.symbol[at, fresh] = nodes[at, where], symbols[at, where]
        known[at, where] = fresh
        return known

    def labellings(self, nodes: ndarray, steps: int) -> ndarray:
        """The symbols from the root to each node, -1 behind them: (rows, paths, steps)."""
        found = np.full((*nodes.shape, steps), self.blank)
        for step in reversed(range(steps)):
            found[:, :, step] = self.symbol[self.row, nodes]
            nodes = self.parent[self.row, nodes]
        flat = torch.from_numpy(found.reshape(-1, steps))
        return collapsed(flat, blank=self.blank, merge_repeated=False).numpy().reshape(found.shape)


class _Beam(NamedTuple):
    """The beginnings kept of each row, (rows, width), with the logs of their probabilities so far."""

    nodes: ndarray
    in_symbol: ndarray
    "Of the ways that end in the last symbol."
    in_blank: ndarray
    "Of the ways that end in a blank."

    @classmethod
    def empty(cls, tree: _Tree, rows: int, width: int) -> _Beam:
        """Before the first step: surely nothing has been said."""
        nodes, in_blank = np.full((rows, width), tree.none), np.full((rows, width), -np.inf)
        nodes[:, 0], in_blank[:, 0] = 0, 0.0
        tree.move(nodes, nodes)
        return cls(nodes, np.full((rows, width), -np.inf), in_blank)

    def after(self, log_p: ndarray, tree: _Tree, first: int) -> _Beam:
        """The beam after a step with those log probabilities, (rows, classes)."""
        row, width, classes = tree.row, self.nodes.shape[1], log_p.shape[1]
        in_symbol, in_blank, longer = self._ways(log_p, tree)
        scores = np.concatenate([np.logaddexp(in_symbol, in_blank), longer.reshape(len(longer), -1)], 1)
        kept = np.sort(np.argpartition(scores, -width, axis=1)[:, -width:], 1)
        best, grown = np.take_along_axis(scores, kept, 1), kept >= width
        origin, symbol = np.where(grown, (kept - width) // classes, kept), np.where(grown, (kept - width) % classes, 0)
        nodes, alive = self.nodes[row, origin], best > -np.inf
        nodes = np.where(grown, tree.grow(nodes, symbol, grown & alive, first), nodes)
        nodes = np.where(alive, nodes, tree.none)
        tree.move(self.nodes, nodes)
        in_symbol, in_blank = in_symbol[row, origin], in_blank[row, origin]
        return _Beam(nodes, np.where(grown, best, in_symbol), np.where(grown, -np.inf, in_blank))

    def _ways(self, log_p: ndarray, tree: _Tree) -> tuple[ndarray, ndarray, ndarray]:
        """Ways of the beginnings that stay: (those that end in the symbol, in a blank); ways of those with one more."""
        row, total = tree.row, np.logaddexp(self.in_symbol, self.in_blank)
        last = tree.symbol[row, self.nodes]
        of_last = log_p[row, last]
        longer = total[:, :, None] + log_p[:, None, :]
        # A symbol follows itself only behind a blank; without one it goes on.
        longer[row, np.arange(total.shape[1]), last] = self.in_blank + of_last
        longer[:, :, tree.blank] = -np.inf
        in_symbol = self.in_symbol + of_last
        # A beginning that grows into another one of the beam adds to that one's ways.
        above = tree.place[row, tree.parent[row, self.nodes]]
        at, where = np.nonzero(above >= 0)
        same = (at, above[at, where], last[at, where])
        in_symbol[at, where] = np.logaddexp(in_symbol[at, where], longer[same])
        longer[same] = -np.inf
        return in_symbol, total + log_p[:, [tree.blank]], longer


def decoded_columns(
    outputs: ndarray, how: str, beam_width: int = 100, top_paths: int = 1, names: Sequence[str] | None = None
) -> dict[str, ndarray]:
    """What `predict --decode greedy|beam` writes: the symbols of each row with spaces between them.

    A beam adds the log of the probability; more than one path are numbered (`decoded_1`, `log_probability_1`, …).
    `names` are what class numbers stand for.

    Raises:
        RecipeError: the model gives no scores of classes for each step, or more paths are asked for than there are.
    """
    if outputs.ndim != 3:
        found = f"outputs of shape {tuple(outputs.shape[1:])} a row"
        raise RecipeError(f"--decode reads steps of scores (steps, classes), found {found}", code="shape")
    if how == "greedy":
        if top_paths > 1:
            raise RecipeError("--decode greedy finds one path", hint="--decode beam finds several")
        return {"decoded": _texts(greedy(outputs).paths[0], names)}
    found = beam_search(outputs, beam_width=beam_width, top_paths=top_paths)
    columns: dict[str, ndarray] = {}
    for rank, path in enumerate(found.paths):
        ending = f"_{rank + 1}" if top_paths > 1 else ""
        columns[f"decoded{ending}"] = _texts(path, names)
        columns[f"log_probability{ending}"] = found.scores[:, rank]
    return columns


def _texts(path: ndarray, names: Sequence[str] | None) -> ndarray:
    def text(symbols: list[int]) -> str:
        return " ".join(str(s) if names is None else names[s] for s in symbols if s >= 0)

    return np.asarray([text(symbols) for symbols in path.tolist()], dtype=object)
