"""Pictures of runs as PNG or SVG bytes; plain data in, the same bytes for the same data out."""

from __future__ import annotations

import io
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.report.smoothing import mean_over_folds, smooth

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#999999"
COLOURS = (BLUE, ORANGE, "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"Told apart by everybody: M. Okabe and K. Ito, Color Universal Design."
DASHES = ("-", "--", "-.")
History = Mapping[str, Sequence[float]]
FEW = 20
"Up to so many classes the matrix shows its counts."


def label(text: object, longest: int = 24) -> str:
    """Text from data as a label: no mathematics, no control or exotic characters, cut to a readable length."""
    kept = "".join(c if unicodedata.category(c)[0] in "LNPSZ" and ord(c) < 0x2000 else " " for c in str(text))
    kept = re.sub(r"\s+", " ", kept).strip() or "?"
    return (kept if len(kept) <= longest else kept[: longest - 1] + ".").replace("$", r"\$")


def _figure(columns: int, rows: int = 1, width: float = 6.0, height: float = 4.2) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), dpi=100, layout="constrained")
    axes = np.atleast_1d(np.asarray(figure.subplots(rows, columns))).ravel().tolist()
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", alpha=0.25)
    return figure, axes


def _bytes(figure: Figure, kind: str = "png") -> bytes:
    import matplotlib

    out = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "trainer"}):
        figure.savefig(out, format=kind, metadata=metadata)
    return out.getvalue()


def quantities(history: History) -> list[str]:
    """What has a panel: the loss, the metrics, and the learning rate when it moves."""
    names = [n for n in history if not n.startswith("val_") and n != "learning_rate"]
    rates = history.get("learning_rate", [])
    return [*names, "learning_rate"] if len(set(rates)) > 1 else names


def _grid(count: int) -> tuple[int, int]:
    columns = min(3, max(count, 1))
    return columns, math.ceil(max(count, 1) / columns)


def _epochs(ax: Axes, name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set_xlabel("epoch")
    ax.set_title(label(name, 40))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def curves(history: History, names: Sequence[str] | None = None, title: str = "", format: str = "png") -> bytes:
    """A panel for each quantity: training as dots, validation as a line, its best loss marked."""
    shown = list(names) if names is not None else quantities(history)
    columns, rows = _grid(len(shown))
    figure, axes = _figure(columns, rows)
    for ax, name in zip(axes, shown, strict=False):
        values = history.get(name, [])
        epochs = range(1, len(values) + 1)
        size = 6 if len(values) <= 60 else 2.5
        ax.plot(epochs, values, "o", color=BLUE, markersize=size, label="training")
        held = history.get(f"val_{name}")
        if held is not None:
            points = [(i + 1, v) for i, v in enumerate(held) if v == v]
            ax.plot(
                [p[0] for p in points], [p[1] for p in points], "-", color=ORANGE, linewidth=1.8, label="validation"
            )
            if name == "loss" and points:
                best = min(points, key=lambda p: p[1])
                ax.axvline(best[0], color=GREY, linewidth=0.8, linestyle="--")
                ax.plot(*best, "o", color=ORANGE, markersize=5, label=f"best: epoch {best[0]}")
            ax.legend(frameon=False)
        _epochs(ax, name)
        if name == "learning_rate":
            ax.set_yscale("log")
    for ax in axes[len(shown) :]:
        ax.set_visible(False)
    if title:
        figure.suptitle(label(title, 80))
    return _bytes(figure, format)


def compared(histories: Mapping[str, History], format: str = "png") -> bytes:
    """A panel for each quantity with a colour for each run: validation as a line, training as small dots; where
    there is no validation, training as a line that says so."""
    shown = list(dict.fromkeys(name for history in histories.values() for name in quantities(history)))
    columns, rows = _grid(len(shown))
    figure, axes = _figure(columns, rows)
    for ax, name in zip(axes, shown, strict=False):
        for number, (run, history) in enumerate(histories.items()):
            colour, dashes = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
            trained, held = history.get(name, []), history.get(f"val_{name}")
            if held is not None:
                ax.plot(range(1, len(trained) + 1), trained, ".", color=colour, markersize=4, alpha=0.6)
            points = [(i + 1, v) for i, v in enumerate(trained if held is None else held) if v == v]
            run = label(run, 60) + (" (training)" if held is None else "")
            ax.plot([p[0] for p in points], [p[1] for p in points], dashes, color=colour, linewidth=1.8, label=run)
        _epochs(ax, name)
        if name == "learning_rate":
            ax.set_yscale("log")
    for ax in axes[len(shown) :]:
        ax.set_visible(False)
    lines = [line for line in axes[0].lines if line.get_linestyle() != "None"]
    if len(lines) < len(axes[0].lines):
        lines += axes[0].plot([], [], ".", color=GREY, markersize=4, label="training")
    figure.legend(handles=lines, loc="outside lower center", ncols=min(len(lines), 1 + columns), frameon=False)
    return _bytes(figure, format)


def fold_curves(histories: Sequence[History], smoothed: bool = False, format: str = "png") -> bytes:
    """Validation of each fold as a thin line and their mean as a thick one; smoothed: the mean alone, without the
    first ten epochs, as a moving average of factor 0.9."""
    mean = mean_over_folds(histories)
    shown = [n for n in quantities(histories[0]) if n != "learning_rate"]
    columns, rows = _grid(len(shown))
    figure, axes = _figure(columns, rows)
    for ax, name in zip(axes, shown, strict=False):
        key = f"val_{name}" if f"val_{name}" in mean else name
        drop = 10 if smoothed and len(mean[key]) > 20 else 0
        if not smoothed:
            for history in histories:
                ax.plot(range(1, len(history[key]) + 1), history[key], color=GREY, linewidth=0.7)
        values = smooth(mean[key], drop=drop) if smoothed else mean[key]
        ax.plot(range(drop + 1, drop + len(values) + 1), values, color=ORANGE, linewidth=2)
        _epochs(ax, f"{key}, mean of {len(histories)} folds" + (", smoothed" if smoothed else ""))
    for ax in axes[len(shown) :]:
        ax.set_visible(False)
    return _bytes(figure, format)


def confusion(matrix: np.ndarray, class_names: Sequence[str], format: str = "png") -> bytes:
    """The confusion matrix as a heat map; counts stand in the cells while there are few classes."""
    count = len(class_names)
    side = min(14.0, max(4.5, 1.8 + 0.5 * count))
    figure, (ax,) = _figure(1, 1, side, side * 0.92)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ax.grid(visible=False)
    names = [label(n, 14) for n in class_names]
    size = 9 if count <= FEW else 6
    tilted = count > 5 and max(map(len, names)) > 3
    ax.set_xticks(range(count), names, rotation=45 if tilted else 0, ha="right" if tilted else "center", size=size)
    ax.set_yticks(range(count), names, size=size)
    ax.set_xlabel("predicted")
    ax.set_ylabel("truth")
    if count <= FEW:
        for row, column in np.argwhere(matrix > 0).tolist():
            colour = "white" if shares[row, column] > 0.55 else "black"
            ax.text(column, row, str(int(matrix[row, column])), ha="center", va="center", size=8, color=colour)
    figure.colorbar(image, ax=ax, shrink=0.8, label="share of the true class")
    return _bytes(figure, format)


def distributions(arrays: Mapping[str, np.ndarray], format: str = "png") -> bytes:
    """A histogram for each weight."""
    from matplotlib.ticker import MaxNLocator

    columns, rows = _grid(len(arrays))
    figure, axes = _figure(columns, rows, 4.2, 2.8)
    for ax, (name, values) in zip(axes, arrays.items(), strict=False):
        finite = values[np.isfinite(values)].ravel()
        ax.hist(finite, bins=min(60, max(5, int(math.sqrt(finite.size)) if finite.size else 5)), color=BLUE)
        ax.set_title(f"{label(name, 40)} ({values.size:,})", size=9)
        ax.xaxis.set_major_locator(MaxNLocator(5))
    for ax in axes[len(arrays) :]:
        ax.set_visible(False)
    return _bytes(figure, format)
