"""Windows over a series: those of Keras's timeseries_dataset_from_array, and a test part that nothing leaks into."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from keras.src.utils import timeseries_dataset_utils

from trainer.errors import DataError
from trainer.sources.base import Places
from trainer.sources.columns import Table
from trainer.sources.series import Series


class Pieces(list[Any]):
    """Stands in for a dataset of grain, of which Keras's function takes these three methods; grain is not needed."""

    @classmethod
    def source(cls, values: Any) -> Pieces:
        return cls(values)

    def to_iter_dataset(self) -> Pieces:
        return self


@pytest.fixture
def windows_of_keras(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Keras's own timeseries_dataset_from_array as (windows, targets)."""
    zipped = SimpleNamespace(ZipMapDataset=lambda parts: Pieces(zip(*parts, strict=True)))
    monkeypatch.setattr(
        timeseries_dataset_utils, "grain", SimpleNamespace(MapDataset=Pieces, experimental=zipped), raising=True
    )

    def run(data: Any, targets: Any, **options: Any) -> tuple[Any, Any]:
        options |= {"batch_size": None, "format": "grain"}
        made = keras.utils.timeseries_dataset_from_array(data, targets, **options)
        return np.stack([x for x, _ in made]), np.stack([y for _, y in made])

    return run


@pytest.fixture
def series(tmp_path: Path) -> Any:
    """Opens a table of these columns with options."""

    def read(data: dict[str, Any], **options: Any) -> Table:
        lines = [",".join(data), *(",".join(map(str, row)) for row in zip(*data.values(), strict=True))]
        (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
        return Series(path="rows.csv", **options).open(Places(tmp_path))

    return read


CASES = [
    (window, stride, rate, rows)
    for window in (1, 3, 10)
    for stride in (1, 2, 5)
    for rate in (1, 2, 4)
    for rows in (45, 47, 50)
]


@pytest.mark.parametrize(("window", "stride", "rate", "rows"), CASES)
def test_windows_are_those_of_keras(
    series: Any, windows_of_keras: Any, window: int, stride: int, rate: int, rows: int
) -> None:
    random = np.random.default_rng(rows)
    data = {name: random.normal(size=rows).astype("float32") for name in ("a", "b")}
    both = np.stack([data["a"], data["b"]], axis=1)
    ours = series(data, columns=["a", "b"], window=window, stride=stride, sampling_rate=rate).train.columns
    options = {"sequence_length": window, "sequence_stride": stride, "sampling_rate": rate}
    x, y = windows_of_keras(both, data["a"][window * rate :], **options)
    np.testing.assert_array_equal(ours["window"], x)
    np.testing.assert_array_equal(ours["next"], y)


@pytest.mark.parametrize("horizon", [2, 3, 6])
@pytest.mark.parametrize(("stride", "rate"), [(1, 1), (3, 2), (2, 3)])
def test_a_longer_horizon_goes_on_at_the_same_pace(
    series: Any, windows_of_keras: Any, horizon: int, stride: int, rate: int
) -> None:
    """A window of Keras's over both, divided: what comes first is seen, the rest is foretold."""
    values = np.arange(60, dtype="float32") ** 2
    found = series({"a": values}, window=4, horizon=horizon, stride=stride, sampling_rate=rate)
    options = {"sequence_length": 4 + horizon, "sequence_stride": stride, "sampling_rate": rate}
    both, _ = windows_of_keras(values, values, **options)
    np.testing.assert_array_equal(found.train.columns["window"][:, :, 0], both[:, :4])
    np.testing.assert_array_equal(found.train.columns["next"], both[:, 4:])
    assert found.fields["next"].shape == (horizon,)


def test_columns_target_and_fields(series: Any) -> None:
    data = {"day": ["mon", "tue", "wed", "thu"], "warm": [1, 2, 3, 4], "wet": [0.5, 0.25, 0.125, 0]}
    table = series(data, window=2)
    assert table.train.columns["window"].tolist() == [[[1, 0.5], [2, 0.25]], [[2, 0.25], [3, 0.125]]]
    assert table.train.columns["next"].tolist() == [3, 4]
    assert series(data, window=2, columns="wet", target="warm").train.columns["next"].tolist() == [3, 4]
    assert table.fields["window"].shape == (2, 2)
    unopened = Series(path="x.csv", window=2, columns=("warm",), horizon=3).fields()
    assert {n: (f.shape, f.dtype) for n, f in unopened.items()} == {
        "window": ((2, 1), "float32"),
        "next": ((3,), "float32"),
    }
    assert Series(path="x.csv", window=2).fields()["window"].shape == (2, None)


@pytest.mark.parametrize("horizon", [1, 2, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("rate", [1, 2, 3])
@pytest.mark.parametrize("test", [1, 4, 0.25])
def test_nothing_that_test_rows_foretell_is_in_a_training_row(
    series: Any, horizon: int, stride: int, rate: int, test: float
) -> None:
    options: dict[str, Any] = {"window": 4, "horizon": horizon, "stride": stride, "sampling_rate": rate}
    data = {"a": np.arange(80)}
    whole, divided = series(data, **options).train, series(data, **options, test=test)
    last = divided.test.columns
    count = test if isinstance(test, int) else round(test * len(whole))
    for name in ("window", "next"):
        np.testing.assert_array_equal(last[name], whole.columns[name][-count:])
        kept = len(divided.train)
        np.testing.assert_array_equal(divided.train.columns[name], whole.columns[name][:kept])
    # The values are their own places in time.
    assert divided.train.columns["next"].max() < last["next"].min()
    assert divided.train.columns["window"].max() < last["next"].min()
    # And no window is left out for nothing.
    assert whole.columns["next"][kept].max() >= last["next"].min()


@pytest.mark.parametrize(
    ("file", "column", "rows", "first"),
    [("daily-min-temperatures.csv", "Temp", 3650, 20.7), ("airline-passengers.csv", "Passengers", 144, 112)],
)
def test_real_series(data_folder: Path, file: str, column: str, rows: int, first: float) -> None:
    for columns in (None, (column,)):
        table = Series(path=file, columns=columns, window=12, test=0.25).open(Places(None, data_folder))
        assert table.test is not None
        assert len(table.train) + len(table.test) == rows - 12
        assert table.train.columns["window"][0, 0, 0] == np.float32(first)
        np.testing.assert_array_equal(table.train.columns["window"][12:, 0, 0], table.train.columns["next"][:-12])
        assert list(table.digests) == [file]


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "no such column": ("Temp\n1\n2\n", {"columns": "temp"}, "did you mean Temp?"),
    "no such target": ("a\n1\n2\n", {"target": "zzz"}, 'there is no column "zzz"'),
    "text": ("a,b\nx,1\ny,2\n", {"columns": "a"}, 'column "a" holds text ("x"), but a series is made of numbers'),
    "no numbers": ("a;b\n1;2\n", {}, "expected a column of numbers, found none"),
    "too short": ("a\n1\n2\n", {"window": 3}, "a window and what follows it take 4 rows, found 2"),
    "too short for the pace": ("a\n1\n2\n3\n", {"sampling_rate": 2, "window": 2}, "take 5 rows, found 3"),
    "a gap": ("a,b\n1,1\n,2\n3,3\n", {}, 'rows.csv:3: column "a" has no value'),
    "not finite": ("a\n1\nnan\n", {}, "rows.csv:3"),
    "test takes all": ("a\n1\n2\n3\n", {"test": 2}, "test takes 2 of 2 windows, which leaves 0"),
    "test takes none": ("a\n1\n2\n3\n", {"test": 0.1}, "test takes 0 of 2 windows"),
    "the gap takes all": ("a\n1\n2\n3\n4\n5\n", {"test": 1, "horizon": 3}, "which leaves 0 to train on"),
    "ragged": ("a,b\n1,2\n3\n", {}, "rows.csv:3: expected 2 values, found 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said(tmp_path: Path, name: str) -> None:
    data, options, said = BAD[name]
    (tmp_path / "rows.csv").write_text(data)
    with pytest.raises(DataError, match=r"rows\.csv") as caught:
        Series(path="rows.csv", **{"window": 1, **options}).open(Places(tmp_path))
    assert said in str(caught.value)


@pytest.mark.parametrize("test", [0, 1.0, -1, True, "1"])
def test_a_test_part_is_a_share_or_a_number(test: Any) -> None:
    with pytest.raises(ValueError, match="a share between 0 and 1, or a number of windows"):
        Series(path="rows.csv", window=1, test=test)
