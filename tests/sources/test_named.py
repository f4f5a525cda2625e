"""Named sets equal to Keras's and scikit-learn's own loaders on the same files.

Keras checks the digest of its cached files and would download the published ones again, so its loaders run with
their file finder replaced; everything after it is Keras's own. Fashion-MNIST has no digest in Keras: there the whole
loader runs, over a KERAS_HOME. MNIST is compared on 5,000 of its rows, repacked into Keras's archive.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from sklearn import datasets as sklearn_sets

from trainer.errors import DataError, EnvironmentFault, FileError
from trainer.sources.base import Places, Source
from trainer.sources.columns import Ragged, Rows
from trainer.sources.image_sets import FILES, FashionMnist, Mnist
from trainer.sources.tables import BostonHousing, PimaIndiansDiabetes
from trainer.sources.text_sets import Imdb, Reuters


def keras_loader(monkeypatch: pytest.MonkeyPatch, name: str, path: Path) -> Any:
    """Keras's own load_data, with this file in the place of its cached one."""
    module = importlib.import_module(f"keras.src.datasets.{name}")
    monkeypatch.setattr(module, "get_file", lambda *args, **options: str(path))
    return module.load_data


def same_texts(ours: Any, theirs: Any) -> None:
    assert isinstance(ours, Ragged)
    assert len(ours) == len(theirs)
    assert [row.tolist() for row in (ours[i] for i in range(len(ours)))] == [list(row) for row in theirs]


def columns(rows: Rows | None) -> dict[str, Any]:
    assert rows is not None
    return rows.columns


@pytest.fixture(scope="module")
def fewer_reviews(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The first reviews of the real file, packed again as Keras packs it: parity over many options in little time."""

    def make(folder: Path) -> Path:
        target = tmp_path_factory.mktemp("imdb")
        with np.load(folder / "imdb.npz", allow_pickle=True) as found:
            arrays: dict[str, Any] = {n: found[n][:700] for n in found.files}
        np.savez(target / "imdb.npz", **arrays)
        return target

    return make


IMDB = [
    {},
    {"num_words": 10000},
    {"num_words": 500, "skip_top": 20},
    {"maxlen": 150},
    {"num_words": 1000, "oov_char": None},
    {"start_char": None},
    {"start_char": None, "index_from": 0, "oov_char": None, "skip_top": 5},
    {"start_char": 7, "oov_char": 9, "index_from": 20, "num_words": 300},
    {"seed": 1},
    {"seed": 0, "maxlen": 100, "num_words": 50, "skip_top": 10, "index_from": 5},
    # Numbers that 32 bits don't hold.
    {"index_from": 1 << 31},
    {"oov_char": 1 << 40, "num_words": 100},
]


def test_imdb_equals_keras(data_folder: Path, fewer_reviews: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fewer_reviews(data_folder)
    load = keras_loader(monkeypatch, "imdb", folder / "imdb.npz")
    for options in IMDB:
        (x, y), (x_test, y_test) = load(**options)
        table = Imdb(**options).open(Places(None, folder, False))
        for rows, words, labels in ((table.train, x, y), (table.test, x_test, y_test)):
            same_texts(columns(rows)["words"], words)
            np.testing.assert_array_equal(columns(rows)["label"], labels)


def test_whole_imdb_equals_keras(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (x, y), (x_test, y_test) = keras_loader(monkeypatch, "imdb", data_folder / "imdb.npz")(num_words=10000)
    table = Imdb(num_words=10000).open(Places(None, data_folder, False))
    for rows, words, labels in ((table.train, x, y), (table.test, x_test, y_test)):
        ours = columns(rows)["words"]
        np.testing.assert_array_equal(ours.lengths(), [len(w) for w in words])
        np.testing.assert_array_equal(ours.values, np.concatenate([np.asarray(w) for w in words]))
        np.testing.assert_array_equal(columns(rows)["label"], labels)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_words": 10000},
        {"test_split": 0.35, "seed": 5},
        {"maxlen": 80, "skip_top": 15, "num_words": 2000},
        {"start_char": None, "oov_char": None, "index_from": 0, "num_words": 400},
        {"start_char": 4, "oov_char": 6, "index_from": 9, "num_words": 900},
    ],
    ids=str,
)
def test_reuters_equals_keras(data_folder: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    (x, y), (x_test, y_test) = keras_loader(monkeypatch, "reuters", data_folder / "reuters.npz")(**options)
    table = Reuters(**options).open(Places(None, data_folder, False))
    for rows, words, labels in ((table.train, x, y), (table.test, x_test, y_test)):
        same_texts(columns(rows)["words"], words)
        np.testing.assert_array_equal(columns(rows)["label"], labels)


def test_a_test_split_of_nothing_is_no_test_set(data_folder: Path) -> None:
    places = Places(None, data_folder, False)
    assert Reuters(test_split=0).open(places).test is None
    table = BostonHousing(test_split=0).open(places)
    assert table.test is None
    assert len(table.train) == 506


@pytest.mark.parametrize("options", [{}, {"seed": 7}, {"test_split": 0.33}, {"test_split": 0.5, "seed": 0}], ids=str)
def test_boston_housing_equals_keras(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    (x, y), (x_test, y_test) = keras_loader(monkeypatch, "boston_housing", data_folder / "boston_housing.npz")(
        **options
    )
    table = BostonHousing(**options).open(Places(None, data_folder, False))
    for rows, a, b in ((table.train, x, y), (table.test, x_test, y_test)):
        np.testing.assert_array_equal(columns(rows)["features"], a.astype("float32"))
        np.testing.assert_array_equal(columns(rows)["price"], b.astype("float32"))


def test_fashion_mnist_equals_keras(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(data_folder / "fashion-mnist", tmp_path / "datasets" / "fashion-mnist")
    from keras.src.utils import file_utils

    monkeypatch.setattr(file_utils.config, "keras_home", lambda: str(tmp_path))
    (x, y), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    table = FashionMnist().open(Places(None, None, False))
    for rows, a, b in ((table.train, x, y), (table.test, x_test, y_test)):
        np.testing.assert_array_equal(columns(rows)["image"], a)
        np.testing.assert_array_equal(columns(rows)["label"], b)


def test_mnist_equals_keras_from_files_and_archive(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "none"))
    files = Mnist(folder="mnist-5k").open(Places(None, data_folder, False))
    arrays = {f"{k}_{p}": columns(r)[c] for p, r in (("train", files.train), ("test", files.test)) for k, c in PAIR}
    np.savez(tmp_path / "mnist.npz", **arrays)
    (x, y), (x_test, y_test) = keras_loader(monkeypatch, "mnist", tmp_path / "mnist.npz")()
    assert len(x) == 5000
    assert len(x_test) == 10000
    archive = Mnist().open(Places(None, tmp_path, False))
    for table in (files, archive):
        for rows, a, b in ((table.train, x, y), (table.test, x_test, y_test)):
            np.testing.assert_array_equal(columns(rows)["image"], a)
            np.testing.assert_array_equal(columns(rows)["label"], b)


PAIR = (("x", "image"), ("y", "label"))


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "wine", "iris", "diabetes"])
def test_bundled_sets_equal_scikit_learn(name: str) -> None:
    loaded = getattr(sklearn_sets, f"load_{name}")()
    source = Source.parse(name)
    table = source.open(Places())
    (x_name, x), (y_name, y) = table.train.columns.items()
    np.testing.assert_array_equal(x.reshape(len(x), -1), loaded.data.astype("float32"))
    np.testing.assert_array_equal(y, loaded.target.astype("float32" if name == "diabetes" else "int64"))
    fields = source.fields()
    assert fields is not None
    assert list(fields) == [x_name, y_name]
    assert fields[x_name].shape == x.shape[1:]
    if name != "diabetes":
        assert fields[y_name].classes == tuple(str(c) for c in loaded.target_names)
    assert table.digests[name] == source.open(Places()).digests[name]
    assert table.test is None


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "wine", "iris"])
def test_bundled_sets_need_no_import(name: str) -> None:
    """scikit-learn takes a second to import, as long as the training of such a set."""
    program = (
        "import sys; from trainer.sources.base import Places, Source; "
        f"Source.parse('{name}').open(Places()); print('sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    "change", [{"file": "no such file.csv"}, {"rows": 3}, {"heading": 0, "file": "breast_cancer.csv"}, {"file": ""}]
)
def test_bundled_sets_elsewhere_in_scikit_learn(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files are not its interface: what is not as it was is left to scikit-learn's own reader."""
    source = Source.parse("wine")
    expected = source.open(Places()).digests
    for option, value in change.items():
        monkeypatch.setattr(type(source), option, value)
    assert source._read() is None
    assert source.open(Places()).digests == expected


def test_bundled_sets_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(EnvironmentFault, match="wine comes with scikit-learn"):
        Source.parse("wine").open(Places())


def test_pima_equals_the_file(data_folder: Path) -> None:
    table = PimaIndiansDiabetes().open(Places(None, data_folder, False))
    values = np.loadtxt(data_folder / "pima-indians-diabetes.csv", delimiter=",")
    np.testing.assert_array_equal(
        np.stack([table.train.columns[str(i)] for i in range(9)], 1), values.astype("float32")
    )


def test_words_of_imdb_read_as_keras_documents(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras's example: the inverted word index with index_from added, and [START], [OOV] before it."""
    index = json.loads((data_folder / "imdb_word_index.json").read_text())
    words = Imdb().vocabulary(Places(None, data_folder, False))
    assert words is not None
    by_number = {number + 3: word for word, number in index.items()} | {1: "<start>", 2: "<unknown>"}
    assert len(words) == max(by_number) + 1
    assert all(words[number] == word for number, word in by_number.items())


def save_texts(path: Path, rows: list[Any], labels: Any, **more: Any) -> None:
    texts = np.empty(len(rows), dtype=object)
    texts[:] = rows
    np.savez(path, x=texts, y=np.asarray(labels), **more)


@pytest.mark.parametrize(
    ("rows", "labels", "said"),
    [
        ([[1, 2], [3]], [0], "expected 2 integers in y"),
        ([[1, 2], [3]], [0.5, 1], "expected 2 integers in y"),
        ([[1, -2], [3]], [0, 1], "no word number"),
        ([[1, 2**40], [3]], [0, 1], "no word number"),
        ([["a", "b"], [3]], [0, 1], "expected lists of integers"),
        ([[1.5], [3]], [0, 1], "expected lists of integers"),
        ([[[1]], [3]], [0, 1], "expected lists of integers"),
        ([], np.zeros(0, "int64"), "lists of word numbers"),
    ],
    ids=["few", "fractions", "negative", "huge", "text", "float", "nested", "none"],
)
def test_foreign_text_sets_are_refused(tmp_path: Path, rows: list[Any], labels: Any, said: str) -> None:
    save_texts(tmp_path / "reuters.npz", rows, labels)
    with pytest.raises(FileError, match=said):
        Reuters().open(Places(None, tmp_path, False))


def test_numbers_in_the_place_of_texts_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "reuters.npz", x=np.ones((4, 3), "int64"), y=np.ones(4, "int64"))
    with pytest.raises(FileError, match="lists of word numbers"):
        Reuters().open(Places(None, tmp_path, False))
    np.savez(tmp_path / "reuters.npz", z=np.ones(3))
    with pytest.raises(FileError, match="expected an array x, found z"):
        Reuters().open(Places(None, tmp_path, False))


def test_empty_texts_and_a_maxlen_that_keeps_none(tmp_path: Path) -> None:
    save_texts(tmp_path / "reuters.npz", [[], [], [], [], []], [0, 1, 2, 3, 4])
    table = Reuters(start_char=None).open(Places(None, tmp_path, False))
    assert columns(table.train)["words"].lengths().tolist() == [0, 0, 0, 0]
    assert columns(Reuters(num_words=9).open(Places(None, tmp_path, False)).train)["words"].values.tolist() == [1] * 4
    with pytest.raises(DataError, match="no text is shorter than maxlen 1"):
        Reuters(maxlen=1).open(Places(None, tmp_path, False))


def test_a_damaged_word_index_is_no_vocabulary(tmp_path: Path) -> None:
    path, places = tmp_path / "imdb_word_index.json", Places(None, tmp_path, False)
    for text in ('{"a": ', "[1]", '{"a": "b"}', "[" * 100_000, "\udc80".encode("utf-8", "surrogateescape")):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        assert Imdb().vocabulary(places) is None
    path.write_text('{"a": 1, "b": 99999999999}')
    words = Imdb().vocabulary(places)
    assert words == ("<pad>", "<start>", "<unknown>", "<3>", "a")


def test_image_sets_of_another_shape_or_class_are_refused(tmp_path: Path) -> None:
    def write(images: np.ndarray, labels: np.ndarray) -> None:
        for name in FILES:
            array = images if "images" in name else labels
            head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
            (tmp_path / "mnist").mkdir(exist_ok=True)
            (tmp_path / "mnist" / name).write_bytes(gzip.compress(head + array.tobytes()))

    places = Places(None, tmp_path, False)
    write(np.zeros((3, 28, 28), "uint8"), np.zeros(3, "uint8"))
    assert len(Mnist().open(places).train) == 3
    write(np.zeros((3, 20, 28), "uint8"), np.zeros(3, "uint8"))
    with pytest.raises(FileError, match="28 x 28"):
        Mnist().open(places)
    write(np.zeros((3, 28, 28), "uint8"), np.full(3, 10, "uint8"))
    with pytest.raises(FileError, match="labels from 0 to 9"):
        Mnist().open(places)
    write(np.zeros((3, 28, 28), "uint8"), np.zeros(4, "uint8"))
    with pytest.raises(DataError, match="3 rows"):
        Mnist().open(places)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, True], ids=str)
def test_a_seed_that_numpy_would_not_take_is_an_error_of_the_recipe(seed: Any) -> None:
    for kind in (Imdb, Reuters, BostonHousing):
        with pytest.raises(ValueError, match="an integer from 0 to 4294967295"):
            kind(seed=seed)
