"""CIFAR-10 and CIFAR-100: equal to Keras's loaders over one cache, found under every name, damage refused."""

from __future__ import annotations

import gzip
import io
import resource
import tarfile
import time
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras.src.utils import file_utils

from tests.sources.cifar_files import TEN, batch, cifar10, cifar100, python2, write_archive, write_folder
from trainer.errors import FileError
from trainer.sources import cifar, finding
from trainer.sources.base import Places, Source
from trainer.sources.cifar import Cifar10, Cifar100
from trainer.sources.columns import Rows, Table
from trainer.sources.downloading import Published, digest

ARCHIVES = {
    "cifar10": ["cifar-10-python.tar.gz", "cifar-10-batches-py-target_archive", "cifar-10-batches-py.tar.gz"],
    "cifar100": ["cifar-100-python.tar.gz", "cifar-100-python-target_archive"],
}
FOLDERS = {
    "cifar10": ["cifar-10-batches-py", "cifar-10-batches-py-target/cifar-10-batches-py"],
    "cifar100": ["cifar-100-python", "cifar-100-python-target/cifar-100-python"],
}
FILES = {"cifar10": cifar10, "cifar100": cifar100}


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No place of this machine is looked at, and nothing is downloaded."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(finding, "SYSTEM", tmp_path / "system")


def same(rows: Rows | None, x: Any, y: Any) -> None:
    assert rows is not None
    assert rows.columns["image"].dtype == x.dtype == "uint8"
    assert rows.columns["image"].flags.c_contiguous
    assert rows.columns["label"].dtype == "int64"
    assert np.array_equal(rows.columns["image"], x)
    np.testing.assert_array_equal(rows.columns["label"][:, None], y)


@pytest.mark.parametrize(
    ("name", "options"), [("cifar10", {}), ("cifar100", {}), ("cifar100", {"label_mode": "coarse"})], ids=str
)
def test_cifar_equals_keras_over_keras_cache(
    name: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras's whole loader unpacks its cached archive, whose digest alone it is told to believe."""
    home, rows = tmp_path / "keras", 10_000 if name == "cifar10" else 500
    cached = home / "datasets" / ARCHIVES[name][1]
    write_archive(cached, FOLDERS[name][0], FILES[name](rows))
    monkeypatch.setattr(file_utils.config, "keras_home", lambda: str(home))
    monkeypatch.setattr(file_utils, "validate_file", lambda *_, **__: True)
    monkeypatch.setattr(file_utils, "urlretrieve", lambda *_: pytest.fail("downloaded"))
    packed = Source.parse({type(Source.parse(name)).__name__: options}).open(Places(None, None, False))
    assert list(packed.digests) == [cached.name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's of old pickles, Python's of unpacking
        train, test = getattr(keras.datasets, name).load_data(**options)
    assert len(train[0]) == rows * (5 if name == "cifar10" else 1)
    unpacked = Source.parse({type(Source.parse(name)).__name__: options}).open(Places(None, None, False))
    assert cached.name not in unpacked.digests
    for table in (packed, unpacked):
        same(table.train, *train)
        same(table.test, *test)


def opened(source: Source, folder: Path) -> Table:
    return source.open(Places(None, folder, False))


@pytest.mark.parametrize("name", FILES)
def test_the_values_are_those_of_the_files(name: str, tmp_path: Path) -> None:
    files = FILES[name]()
    write_folder(tmp_path / FOLDERS[name][0], files)
    source = Source.parse(name)
    table = opened(source, tmp_path)
    parts = [files[f"data_batch_{i}"] for i in range(1, 6)] if name == "cifar10" else [files["train"]]
    data = np.concatenate([p["data"] for p in parts])
    images = table.train.columns["image"]
    assert images.shape == (len(data), 32, 32, 3)
    for row, y, x, channel in ((0, 0, 0, 0), (1, 3, 5, 2), (len(data) - 1, 31, 30, 1)):
        assert images[row, y, x, channel] == data[row, 1024 * channel + 32 * y + x]
    key = "labels" if name == "cifar10" else "fine_labels"
    assert table.train.columns["label"].tolist() == [v for p in parts for v in p[key]]
    assert table.fields["image"].shape == (32, 32, 3)
    assert (source.fields() or {}).keys() == table.fields.keys() == table.train.columns.keys()
    folder = tmp_path / FOLDERS[name][0]
    assert table.digests == {file: digest(folder / file) for file in files}


def test_an_array_in_the_order_of_columns_is_read_as_the_same_pictures(tmp_path: Path) -> None:
    files = cifar100()
    for order in ("C", "F"):
        data = np.asarray(files["train"]["data"], order=order)
        write_folder(tmp_path / order / "cifar-100-python", {**files, "train": {**files["train"], "data": data}})
    one, other = (opened(Cifar100(), tmp_path / order).train.columns["image"] for order in "CF")
    np.testing.assert_array_equal(one, other)


def test_the_classes_have_names(tmp_path: Path) -> None:
    fields = Cifar10().fields()
    assert fields["label"].classes == tuple(TEN)
    folder = tmp_path / "cifar-100-python"
    files = cifar100()
    write_folder(folder, files)
    for mode, count, word in (("fine", 100, "thing"), ("coarse", 20, "group")):
        source = Cifar100.model_validate({"label_mode": mode})
        assert source.fields()["label"].classes is None
        table = opened(source, tmp_path)
        assert table.fields["label"].classes == tuple(f"{word}_{i}" for i in range(count))
        assert table.train.columns["label"].max() == count - 1
    for wrong in (["a"] * 100, ["a", "b"], [f"{i}\x1b" for i in range(100)], list(range(100)), "abc"):
        write_folder(folder, {"meta": {"fine_label_names": wrong}})
        assert opened(Cifar100(), tmp_path).fields["label"].classes is None
    (folder / "meta").unlink()
    assert opened(Cifar100(), tmp_path).fields["label"].classes is None


@pytest.mark.parametrize("name", FILES)
def test_every_name_under_which_a_set_is_kept(name: str, tmp_path: Path) -> None:
    files, data = FILES[name](), {}
    for archive in ARCHIVES[name]:
        write_archive(tmp_path / archive / archive, FOLDERS[name][0], files)
        data[archive] = opened(Source.parse(name), tmp_path / archive)
    for at, folder in enumerate(FOLDERS[name]):
        write_folder(tmp_path / str(at) / folder, files)
        data[folder] = opened(Source.parse(name), tmp_path / str(at))
    first, *others = data.values()
    for other in others:
        np.testing.assert_array_equal(first.train.columns["image"], other.train.columns["image"])
    assert len(others) >= 3


def test_the_first_place_that_has_a_set_is_taken(tmp_path: Path) -> None:
    files = cifar10(3)
    write_archive(tmp_path / "data" / "cifar-10-python.tar.gz", "cifar-10-batches-py", cifar10(2))
    write_folder(tmp_path / "keras" / "datasets" / FOLDERS["cifar10"][1], files)
    assert len(opened(Cifar10(), tmp_path / "data").train) == 10
    assert len(opened(Cifar10(), tmp_path / "none").train) == 15
    (tmp_path / "keras" / "datasets" / FOLDERS["cifar10"][1] / "test_batch").unlink()
    with pytest.raises(FileError, match=r"cifar-10-python\.tar\.gz is not here"):
        opened(Cifar10(), tmp_path / "none")


@pytest.mark.parametrize("name", FILES)
def test_the_archive_is_downloaded_by_the_digest_that_keras_names(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Published] = []

    def pretend(published: Published, path: Path, where: str = "") -> Path:
        asked.append(published)
        write_archive(path, FOLDERS[name][0], FILES[name]())
        return path

    monkeypatch.setattr(finding, "download", pretend)
    for _ in range(2):
        assert len(Source.parse(name).open(Places(None, None, True)).train) > 0
    assert len(asked) == 1
    loader = Path(keras.__file__).parent / "src" / "datasets" / f"{name}.py"
    assert asked[0].sha256 in loader.read_text()
    assert f'"{asked[0].url}"' in loader.read_text()


def changed(**values: Any) -> dict[str, Any]:
    return {"test": {k: v for k, v in {**cifar100()["test"], **values}.items() if v is not None}}


BYTES = np.zeros((100, 3072), "uint8")
WRONG = {
    "no pictures": (changed(data=None), "expected an array data and a list fine_labels, found batch_label, "),
    "no labels": (changed(fine_labels=None), "expected an array data and a list fine_labels"),
    "fewer labels": (changed(fine_labels=[1, 2]), "found 2 labels and 307200 bytes"),
    "none": (changed(fine_labels=[], data=BYTES[:0]), "found 0 labels"),
    "narrow": (changed(data=BYTES[:, :3000]), r"of shape \(100, 3000\)"),
    "label of 100": (changed(fine_labels=[0] * 99 + [100]), r"fine_labels\[99\]: expected a whole number from 0 to 99"),
    "a label in words": (changed(fine_labels=["a"] * 100), r"fine_labels\[0\]: expected a whole number"),
    "pictures as a list": (changed(data=[1, 2]), "expected an array data"),
    "no pickle": ({"test": b"\x1f\x8b"}, "expected a pickled dict"),
    "an empty file": ({"test": b""}, "expected a pickled dict"),
    "a list": ({"test": python2([1, 2])}, "expected a pickled dict of pictures or names: not one dict"),
}


@pytest.mark.parametrize("kind", ["folder", "archive"])
@pytest.mark.parametrize("name", WRONG)
def test_other_contents_are_refused_with_the_file(name: str, kind: str, tmp_path: Path) -> None:
    files, said = WRONG[name]
    if kind == "folder":
        write_folder(tmp_path / "cifar-100-python", cifar100() | files)
    else:
        write_archive(tmp_path / "cifar-100-python.tar.gz", "cifar-100-python", cifar100() | files)
    with pytest.raises(FileError, match=said) as caught:
        opened(Cifar100(), tmp_path)
    assert "cifar-100-python/test: " in str(caught.value)


def test_coarse_labels_are_held_to_their_own_number(tmp_path: Path) -> None:
    write_folder(tmp_path / "cifar-100-python", cifar100() | changed(coarse_labels=[20] * 100))
    assert len(opened(Cifar100(), tmp_path).train) == 200
    with pytest.raises(FileError, match="from 0 to 19"):
        opened(Cifar100(label_mode="coarse"), tmp_path)


def test_another_word_for_the_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of 'fine' or 'coarse', found"):
        Source.parse({"Cifar100": {"label_mode": "both"}})


def link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def big(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    return info


def without(name: str) -> dict[str, Any]:
    return {k: v for k, v in cifar100().items() if k != name}


@pytest.mark.parametrize(
    "more",
    [
        [],
        [link("cifar-100-python/test", tarfile.SYMTYPE, "/etc/passwd")],
        [link("cifar-100-python/test", tarfile.LNKTYPE, "cifar-100-python/train")],
        [link("cifar-100-python/test", tarfile.FIFOTYPE, "")],
        [big("../cifar-100-python/test", 10), big("/cifar-100-python/test", 10), big("test", 3)],
        [big("cifar-100-python//test", 10), big("x/../cifar-100-python/test", 10)],
    ],
    ids=["none", "symlink", "hard link", "pipe", "elsewhere", "spelt otherwise"],
)
def test_only_plain_files_of_the_exact_name_are_taken(more: list[tarfile.TarInfo], tmp_path: Path) -> None:
    write_archive(tmp_path / "cifar-100-python.tar.gz", "cifar-100-python", without("test"), more)
    with pytest.raises(FileError, match="expected the file cifar-100-python/test in it, found none"):
        opened(Cifar100(), tmp_path)
    assert [p.name for p in tmp_path.rglob("*")] == ["cifar-100-python.tar.gz"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([big("other", 300 << 20)], "unpacks to more than 256 MiB"),
        ([big("cifar-100-python/train", 300 << 20)], "unpacks to more than 256 MiB|too large"),
        ([big(f"{i}", 0) for i in range(1001)], "more than 1000 members"),
    ],
    ids=["another", "a file", "many"],
)
def test_bombs_are_refused_before_memory_is_taken(more: list[tarfile.TarInfo], said: str, tmp_path: Path) -> None:
    write_archive(tmp_path / "cifar-100-python.tar.gz", "cifar-100-python", cifar100(), more)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with pytest.raises(FileError, match=said):
        opened(Cifar100(), tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 << 10
    assert time.perf_counter() - began < 10


def test_a_file_too_large_or_not_to_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "cifar-100-python", cifar100())
    monkeypatch.setattr(cifar, "MOST_BYTES", 1 << 16)
    with pytest.raises(FileError, match="train: expected at most"):
        opened(Cifar100(), tmp_path)
    with pytest.raises(FileError, match="can't be read"):
        cifar.whole(tmp_path)


def test_mutants_of_an_archive_are_a_set_or_a_clean_refusal(tmp_path: Path) -> None:
    path = tmp_path / "cifar-100-python.tar.gz"
    write_archive(path, "cifar-100-python", cifar100(10) | {"test": batch(1, 5, {"fine_labels": 100})})
    packed = path.read_bytes()
    plain = gzip.decompress(packed)
    heads = [at for at in range(0, len(plain), 512) if plain[at : at + 5] == b"cifar"]
    random = np.random.default_rng(0)
    seen = {"read": 0, "refused": 0}
    for turn in range(300):
        data = bytearray(packed if turn % 3 == 0 else plain)
        for _ in range(random.integers(1, 4)):
            # A third each: packed bytes, heads of members, contents.
            at = random.integers(0, 512) + random.choice(heads) if turn % 3 == 1 else random.integers(0, len(data))
            data[at] = random.integers(0, 256)
        cut = data[: random.integers(0, len(data))] if turn % 10 == 0 else data
        path.write_bytes(bytes(cut) if turn % 3 == 0 else gzip.compress(bytes(cut), 1))
        try:
            table = opened(Cifar100(), tmp_path)
        except FileError:
            seen["refused"] += 1
        else:
            assert table.train.columns["image"].shape[1:] == (32, 32, 3)
            assert table.train.columns["label"].max() < 100
            seen["read"] += 1
    assert seen["read"] > 20
    assert seen["refused"] > 100


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cifar-10-python.tar.gz"
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w"):
        pass
    for data in (b"", b"<html>", gzip.compress(b""), gzip.compress(b"x" * 5000), stream.getvalue()):
        path.write_bytes(data)
        with pytest.raises(FileError, match=r"cifar-10-python\.tar\.gz: expected"):
            opened(Cifar10(), tmp_path)
