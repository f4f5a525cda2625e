"""Smoothed curves and means over folds, on plain lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def exponential_moving_average(points: Sequence[float], factor: float = 0.9) -> list[float]:
    """Each point as `factor` of the one before and the rest of itself; the first stays."""
    smoothed: list[float] = []
    for point in points:
        smoothed.append(smoothed[-1] * factor + point * (1 - factor) if smoothed else point)
    return smoothed


def smooth(points: Sequence[float], factor: float = 0.9, drop: int = 10) -> list[float]:
    """The moving average of what follows the first `drop` points, whose scale hides the rest."""
    return exponential_moving_average(points[drop:], factor)


def mean_over_folds(histories: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    """Mean of each quantity at each epoch, over the folds that reached it."""
    made: dict[str, list[float]] = {}
    for name in dict.fromkeys(n for h in histories for n in h):
        columns = [h[name] for h in histories if name in h]
        longest = max(map(len, columns))
        reached = [[c[i] for c in columns if i < len(c)] for i in range(longest)]
        made[name] = [sum(values) / len(values) for values in reached]
    return made
