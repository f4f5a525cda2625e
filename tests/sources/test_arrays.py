"""NPY, NPZ and IDX files: what numpy writes is read; a header that lies is refused before memory is taken."""

from __future__ import annotations

import gzip
import io
import resource
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.errors import DataError, FileError, TrainerError
from trainer.sources.arrays import read_npy, read_npz
from trainer.sources.base import Places
from trainer.sources.idx import Idx, read_idx
from trainer.sources.tables import Npz

KINDS = ["u1", "i1", "i2", "<i4", ">i4", "i8", "u8", "f2", "<f4", ">f4", "f8", "?", "<U3", ">U3", "S4"]


def npy(array: Any, *, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version, allow_pickle=True)
    return stream.getvalue()


def header(text: str, data: bytes = b"") -> bytes:
    """An .npy file with this header."""
    body = text.encode("latin-1") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(body)) + body + data


def described(shape: str, descr: str = "'<f4'", fortran: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 4)])
def test_what_numpy_writes_is_read(kind: str, shape: tuple[int, ...]) -> None:
    array = np.arange(6).astype(kind)[: int(np.prod(shape))].reshape(shape)
    for version in ((1, 0), (2, 0)):
        for order in (array, np.asfortranarray(array)):
            found = read_npy(npy(order, version=version), "x.npy")
            np.testing.assert_array_equal(found, array)
            assert found.dtype == array.dtype.newbyteorder("=")
            assert found.flags.writeable
            assert found.flags.c_contiguous


BAD_HEADERS = {
    "no magic": b"NUMPY\x01\x00",
    "nothing": b"",
    "another version": b"\x93NUMPY\x09\x00" + b"\0" * 20,
    "header cut": npy(np.ones(3))[:40],
    "no dictionary": header("[1, 2]"),
    "no syntax": header("{'descr': "),
    "an open string": header("{'descr': '<f4"),
    "a call": header("__import__('os').system('true')"),
    "deep": header("(" * 9000),
    "long": header("{" + " " * 60000 + "}"),
    "keys": header("{'descr': '<f4'}"),
    "shape of text": header(described("'a'")),
    "shape of fractions": header(described("(1.5,)")),
    "negative": header(described("(-1,)"), b"\0" * 4),
    "negative pair": header(described("(-1, -1)"), b"\0" * 4),
    "terabytes": header(described("(1000000000000,)"), b"\0" * 4),
    "zero and huge": header(described("(0, 10**40)".replace("10**40", "1" + "0" * 40))),
    "many axes": header(described("(" + "1," * 70 + ")"), b"\0" * 4),
    "no type": header(described("(1,)", "'nonsense'"), b"\0" * 4),
    "empty type": header(described("(1,)", "'V0'")),
    "record": header(described("(1,)", "[('a', '<f4')]"), b"\0" * 4),
    "record with objects": header(described("(1,)", "[('a', 'O')]"), b"\0" * 4),
    "complex": header(described("(1,)", "'<c8'"), b"\0" * 8),
    "longdouble": header(described("(1,)", "'<f16'"), b"\0" * 16),
    "date": header(described("(1,)", "'<M8[D]'"), b"\0" * 8),
    "no characters": header(described("(1,)", "'<U1'"), b"\xff\xff\xff\xff"),
    "nested type": header(described("(1,)", "[" * 90 + "]" * 90), b"\0" * 4),
    "short": npy(np.ones(3))[:-1],
    "more": npy(np.ones(3)) + b"\0",
    "a null byte": header("{'descr': '<f4\0'}"),
    "no encoding": header("{'descr': '\xff'}"),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_header_that_lies_is_refused(name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FileError, match=r"x\.npy: "):
        read_npy(BAD_HEADERS[name], "x.npy")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_header_that_python_2_wrote_is_read() -> None:
    data = header(described("(2L,)"), struct.pack("<2f", 1, 2))
    assert read_npy(data, "x.npy").tolist() == [1, 2]


def archive(path: Path, members: dict[str, bytes], **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    for data in (b"", b"PK", b"not a zip", b"PK\x03\x04" + b"\0" * 100):
        path.write_bytes(data)
        with pytest.raises(FileError, match=r"x\.npz"):
            read_npz(path)
    archive(path, {"a.txt": b"hello"})
    with pytest.raises(FileError, match="expected arrays"):
        read_npz(path)
    archive(path, {"a.npy": b"hello"})
    with pytest.raises(FileError, match=r"x\.npz: a\.npy: expected an \.npy array"):
        read_npz(path)
    with pytest.raises(FileError, match="gone"):
        read_npz(tmp_path / "gone.npz")


def test_a_member_that_claims_another_size_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.npz", {"a.npy": npy(np.zeros(1000))}, compression=zipfile.ZIP_DEFLATED)
    good = path.read_bytes()
    size = struct.pack("<I", len(npy(np.zeros(1000))))
    for claimed in (10, 1 << 31, 0xFFFFFFF0):
        path.write_bytes(good.replace(size, struct.pack("<I", claimed)))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(FileError):
            read_npz(path)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_mutants_of_an_archive_are_arrays_or_a_clean_refusal(tmp_path: Path, method: int) -> None:
    members = {"x.npy": npy(np.arange(40.0).reshape(4, 10)), "y.npy": npy(np.arange(4))}
    path = archive(tmp_path / "x.npz", members, compression=method)
    good, random = path.read_bytes(), np.random.default_rng(method)
    seen = {"read": 0, "refused": 0}
    for _ in range(200):
        data = bytearray(good)
        for at in random.integers(0, len(data), random.integers(1, 4)):
            data[at] = random.integers(0, 256)
        path.write_bytes(data[: random.integers(1, len(data))] if random.random() < 0.1 else data)
        try:
            table = Npz(path="x.npz").open(Places(tmp_path))
        except TrainerError:
            seen["refused"] += 1
        else:
            assert all(c.flags.c_contiguous for c in table.train.columns.values())
            seen["read"] += 1
    assert seen["read"] > 0
    assert seen["refused"] > 100


def test_npz_columns_and_parts(tmp_path: Path) -> None:
    places, path = Places(tmp_path), tmp_path / "x.npz"
    np.savez(path, x=np.ones((3, 2)), y=np.arange(3))
    table = Npz(path="x.npz").open(places)
    assert {n: c.shape for n, c in table.train.columns.items()} == {"x": (3, 2), "y": (3,)}
    assert table.test is None
    np.savez(path, x_train=np.ones((3, 2)), y_train=np.arange(3), x_test=np.ones((2, 2)), y_test=np.arange(2))
    table = Npz(path="x.npz").open(places)
    assert table.test is not None
    assert (len(table.train), len(table.test)) == (3, 2)
    np.savez(path, x=np.ones((3, 2)), y=np.arange(4))
    with pytest.raises(DataError, match="equal length, found x: 3, y: 4"):
        Npz(path="x.npz").open(places)
    np.savez(path, x=np.ones(3), y=np.asarray(1))
    with pytest.raises(DataError, match="equal length"):
        Npz(path="x.npz").open(places)
    np.savez(path, x_test=np.ones(3))
    with pytest.raises(DataError, match="expected training arrays, found x_test"):
        Npz(path="x.npz").open(places)


def idx(array: np.ndarray, code: int = 8) -> bytes:
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize(("code", "kind"), [(8, ">u1"), (9, ">i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")])
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_of_every_type_are_read(tmp_path: Path, code: int, kind: str, zipped: bool) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(kind)
    data = idx(array, code)
    (tmp_path / "x").write_bytes(gzip.compress(data) if zipped else data)
    found = read_idx(tmp_path / "x")
    np.testing.assert_array_equal(found, array)
    assert found.dtype.isnative


GOOD = idx(np.zeros((5, 4, 4), "uint8"))
BAD_IDX = {
    "nothing": b"",
    "text": b"hello world",
    "wrong type": b"\0\0\x07\x01" + GOOD[4:],
    "wrong beginning": b"\1\0" + GOOD[2:],
    "no axes": b"\0\0\x08\x00",
    "many axes": b"\0\0\x08\x09" + b"\0\0\0\1" * 9,
    "header cut": GOOD[:9],
    "short": GOOD[:-1],
    "more": GOOD + b"\0",
    "oversized": b"\0\0\x08\x03" + struct.pack(">3I", 0x7FFFFFFF, 28, 28) + b"\0" * 10,
    "oversized but allowed": b"\0\0\x08\x01" + struct.pack(">I", 0xFFFFFFF0) + b"\0" * 10,
    "zero and huge": b"\0\0\x08\x08" + struct.pack(">8I", 0, *[0xFFFFFFFF] * 7),
    "gz cut off": gzip.compress(GOOD)[:-12],
    "gz damaged": gzip.compress(GOOD)[:12] + b"\xff\xff" + gzip.compress(GOOD)[14:],
    "gz wrong sum": gzip.compress(GOOD)[:-8] + b"\0" * 8,
    "gz with more behind": gzip.compress(GOOD) + b"garbage",
    "only the gz mark": b"\x1f\x8b",
}


@pytest.mark.parametrize("name", BAD_IDX)
def test_bad_idx_files_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "x-idx").write_bytes(BAD_IDX[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FileError, match="x-idx: "):
        read_idx(tmp_path / "x-idx")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_short_and_a_long_idx_file_say_what_is_there(tmp_path: Path) -> None:
    for data, found in ((GOOD[:-1], "79"), (GOOD + b"\0", "more")):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(FileError, match=rf"the shape \(5, 4, 4\) needs 80 bytes, found {found}"):
            read_idx(tmp_path / "x")


def test_mutants_of_an_idx_file_are_arrays_or_a_clean_refusal(tmp_path: Path) -> None:
    random, path, refused = np.random.default_rng(2), tmp_path / "x", 0
    for good in (idx(np.arange(60, dtype="uint8").reshape(3, 4, 5)), gzip.compress(GOOD)):
        for _ in range(200):
            data = bytearray(good)
            for at in random.integers(0, min(len(data), 30), random.integers(1, 3)):
                data[at] = random.integers(0, 256)
            path.write_bytes(data)
            try:
                assert read_idx(path).ndim > 0
            except FileError:
                refused += 1
    assert 50 < refused < 400


def test_idx_source_and_its_test_pair(tmp_path: Path) -> None:
    (tmp_path / "i").write_bytes(GOOD)
    (tmp_path / "l").write_bytes(idx(np.arange(5, dtype="uint8")))
    (tmp_path / "few").write_bytes(idx(np.arange(4, dtype="uint8")))
    table = Idx(images="i", labels="l", test_images="i", test_labels="l").open(Places(tmp_path))
    assert table.test is not None
    assert table.fields["image"].shape == (4, 4)
    assert table.train.columns["label"].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match="i has 5 rows, few has shape"):
        Idx(images="i", labels="few").open(Places(tmp_path))
    with pytest.raises(ValueError, match="test_images needs test_labels"):
        Idx(images="i", labels="l", test_images="i")
    with pytest.raises(ValueError, match="test_labels needs test_images"):
        Idx(images="i", labels="l", test_labels="l")
