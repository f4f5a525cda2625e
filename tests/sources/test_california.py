"""California housing equal to Keras's loader on the same file."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras.src.utils import file_utils

from trainer.errors import FileError
from trainer.sources import finding
from trainer.sources.base import Places, Source
from trainer.sources.tables import CaliforniaHousing


def write(folder: Path, rows: int = 900, **arrays: Any) -> Path:
    """A file of the published form."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(rows, 8)).astype("float32"), random.uniform(25_000, 500_000, rows).astype("float32")
    folder.mkdir(parents=True, exist_ok=True)
    columns: dict[str, Any] = {"x": x, "y": y} | arrays
    np.savez(folder / "california_housing.npz", **columns)
    return folder / "california_housing.npz"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No place of this machine is looked at."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(finding, "SYSTEM", tmp_path / "system")


@pytest.mark.parametrize("version", ["large", "small"])
@pytest.mark.parametrize("options", [{}, {"seed": 7}, {"test_split": 0.33}, {"test_split": 0.5, "seed": 0}], ids=str)
@pytest.mark.parametrize("rows", [900, 500])
def test_california_housing_equals_keras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: Any, options: dict[str, Any], rows: int
) -> None:
    write(tmp_path / "keras" / "datasets", rows)
    monkeypatch.setattr(file_utils.config, "keras_home", lambda: str(tmp_path / "keras"))
    monkeypatch.setattr(file_utils, "validate_file", lambda *_, **__: True)
    monkeypatch.setattr(file_utils, "urlretrieve", lambda *_: pytest.fail("downloaded"))
    options = {"version": version, **options}
    loaded = keras.datasets.california_housing.load_data(**options)
    table = CaliforniaHousing(**options).open(Places(None, None, False))
    assert sum(len(y) for _, y in loaded) == min(rows, 600 if version == "small" else rows)
    for part, (x, y) in zip((table.train, table.test), loaded, strict=True):
        assert part is not None
        np.testing.assert_array_equal(part.columns["features"], x)
        np.testing.assert_array_equal(part.columns["price"], y)
        assert part.columns["features"].dtype == part.columns["price"].dtype == "float32"


def test_the_defaults_the_order_and_the_publisher_are_keras() -> None:
    published = CaliforniaHousing.published
    module = importlib.import_module("keras.src.datasets.california_housing")
    source = Path(module.__file__ or "").read_text()
    assert published.sha256 in source
    assert published.url.rpartition("/")[0] in source
    assert CaliforniaHousing.options() == ["version", "test_split", "seed"]
    assert CaliforniaHousing() == CaliforniaHousing(version="large", test_split=0.2, seed=113)


def test_a_test_split_of_nothing_is_no_test_set(tmp_path: Path) -> None:
    write(tmp_path)
    table = CaliforniaHousing(test_split=0).open(Places(None, tmp_path, False))
    assert table.test is None
    assert len(table.train) == 900


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.ones((5, 7), "float32"), "y": np.ones(5, "float32")}, "expected x with 8 columns and y"),
        ({"x": np.ones((5, 8), "float32"), "y": np.ones(4, "float32")}, "expected x with 8 columns and y"),
        ({"x": np.full((5, 8), "a"), "y": np.ones(5, "float32")}, "expected x with 8 columns and y"),
        ({"x": np.ones((5, 8), "float32"), "y": np.full(5, "a")}, "expected numbers in y, found the type <U1"),
        ({"x": np.array(1.0), "y": np.array(1.0)}, "expected x with 8 columns and y"),
        ({"x": np.full((5, 8), None), "y": np.ones(5)}, "Python objects, which are never loaded"),
    ],
    ids=["narrow", "short", "words", "prices in words", "a number", "objects"],
)
def test_another_file_is_refused(arrays: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = write(tmp_path, **arrays)
    with pytest.raises(FileError, match=said) as caught:
        CaliforniaHousing().open(Places(None, tmp_path, False))
    assert str(path) in str(caught.value)


def test_another_version_is_an_error_of_the_recipe() -> None:
    with pytest.raises(ValueError, match="expected one of 'large' or 'small', found"):
        Source.parse({"CaliforniaHousing": {"version": "medium"}})
    for split in (1, -0.1):
        with pytest.raises(ValueError, match="a number from 0 to below 1"):
            CaliforniaHousing(test_split=split)
