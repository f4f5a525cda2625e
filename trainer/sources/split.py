"""Which rows train, validate and test: numbers of rows only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from trainer.errors import DataError, EnvironmentFault
from trainer.lazy import np
from trainer.streams import stream

if TYPE_CHECKING:
    from numpy import ndarray

MOST_SEED = 2**32 - 1


def validation_tail(rows: int, share: float) -> int:
    """Keras's `validation_split`: the first row of the last share, which validates.

    Raises:
        DataError: nothing would be left on one side.
    """
    at = math.floor(rows * (1 - share))
    if not 0 < at < rows:
        raise DataError(
            f"validation_split {share:g} of {rows} rows leaves one side empty", path=("fit", "validation_split")
        )
    return at


def split_rows(rows: int, count: int, seed: int, groups: ndarray | None = None) -> tuple[ndarray, ndarray]:
    """(rows kept, rows drawn), each in order; with `groups` their shares are kept.

    Raises:
        DataError: a group is too small to be shared out.
    """
    if groups is None:
        order = stream(seed, "split").permutation(rows)
        return np.sort(order[count:]), np.sort(order[:count])
    if not isinstance(groups, np.ndarray) or groups.ndim != 1:
        raise DataError("the rows can't be stratified by lists", path=("dataset", "split", "stratify"))
    selection = _sklearn()
    try:
        kept, drawn = selection.train_test_split(
            np.arange(rows), test_size=count, random_state=seed % MOST_SEED, stratify=groups
        )
    except (ValueError, TypeError) as error:
        raise DataError(f"the rows can't be stratified: {error}", path=("dataset", "split", "stratify")) from None
    return np.sort(kept), np.sort(drawn)


def folds(
    rows: int, number: int, shuffle: bool = False, seed: int = 0, groups: ndarray | None = None
) -> list[tuple[ndarray, ndarray]]:
    """(training rows, validation rows) of each fold; in order unless shuffled, sizes differ by one at most.

    Raises:
        DataError: more folds than rows, or than members of a group.
    """
    if number > rows:
        raise DataError(f"{number} folds need as many rows, found {rows}", path=("fit", "kfold", "folds"))
    if groups is not None:
        smallest = int(np.unique(groups, return_counts=True)[1].min())
        if smallest < number:
            message = f"{number} stratified folds need as many rows of each class, the smallest class has {smallest}"
            raise DataError(message, path=("fit", "kfold", "folds"))
        made = _sklearn().StratifiedKFold(number, shuffle=True, random_state=seed % MOST_SEED)
        return [(train, held) for train, held in made.split(np.zeros(rows), groups)]
    order = stream(seed, "folds").permutation(rows) if shuffle else np.arange(rows)
    held = [np.sort(part) for part in np.array_split(order, number)]
    return [(np.setdiff1d(np.arange(rows), part, assume_unique=True), part) for part in held]


def _sklearn() -> Any:
    try:
        from sklearn import model_selection
    except ImportError:
        raise EnvironmentFault("stratifying needs scikit-learn", hint="pip install 'recipe-trainer[sklearn]'") from None
    return model_selection
