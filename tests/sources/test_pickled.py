"""Pickles inside .npz files: lists of integers are read, everything else is refused and nothing of it is run."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import resource
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.errors import FileError
from trainer.sources.arrays import read_npy, read_npz
from trainer.sources.columns import Ragged
from trainer.sources.pickled import SPARE_BYTES, object_rows

ROWS = [[1, 14, 22], [1, 194], [], [70000, 2**40, -3]]


def objects(rows: list[Any]) -> np.ndarray:
    made = np.empty(len(rows), dtype=object)
    made[:] = rows
    return made


def read(data: bytes, count: int = 4) -> Ragged:
    return object_rows(data, (count,), "x.npy")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_lists_of_integers_are_read_in_every_protocol_that_numpy_wrote(protocol: int) -> None:
    data = pickle.dumps(objects(ROWS), protocol=protocol)
    if protocol == 2:
        # numpy writes the letter b by way of a codec here; the published files are of protocol 3 and later.
        with pytest.raises(FileError, match=r"_codecs\.encode"):
            read(data)
        return
    assert [row.tolist() for row in read(data)] == ROWS
    assert read(data).values.dtype == "int64"
    small = read(pickle.dumps(objects(ROWS[:3]), protocol=protocol), 3)
    assert [row.tolist() for row in small] == ROWS[:3]
    assert small.values.dtype == "int32"
    with pytest.raises(FileError, match="more than 64 bits"):
        read(pickle.dumps(objects([[2**63]]), protocol=protocol), 1)
    if protocol == 3:
        older = data.replace(b"numpy._core", b"numpy.core")
        assert older != data
        assert [row.tolist() for row in read(older)] == ROWS


TWICE = [7, 8]
MANY = list(range(-3, 70_000))
SETS = {
    "one row": [[1, 2]],
    "one empty row": [[]],
    "one number each": [[3], [300], [70_000], [-1]],
    "one large number": [[2**40]],
    "empty rows": [[], [1], [], []],
    "a row that stands there twice": [TWICE, [], TWICE],
    "a row of large numbers that stands there twice": [[2**40, 1], [1], [2**40, 1]],
    "rows in batches": [[n] * (n % 3) for n in range(2_001)],
    "numbers in batches": [MANY[:1_000], MANY[:1_001], MANY[:2_001]],
    "longer than a frame": [MANY, [1], MANY, []],
}


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("name", SETS)
def test_rows_of_every_form(name: str, protocol: int) -> None:
    rows = SETS[name]
    if name.endswith("that stands there twice"):
        rows = [rows[0], rows[1], rows[0]]
    made = read(pickle.dumps(objects(rows), protocol=protocol), len(rows))
    assert [row.tolist() for row in made] == rows


def test_what_stands_in_for_a_row_is_nothing_that_a_file_can_ask_for() -> None:
    """Neither is a number taken for a row, nor is anything done to one."""
    for part in (b"](K\x07e(K\x00e", b"](K\x07e(K\x00K\x01e", b"](K\x07e(K\x00\x85e", b"](K\x07eNb", b"](K\x07e)R"):
        with pytest.raises(FileError, match="expected lists of integers"):
            read(ARRAY + STATE + b"](" + part + b"etb.", 2)
    with pytest.raises(FileError, match="the opcode b'Q'"):
        read(ARRAY + STATE + b"](K\x00Qetb.", 1)


def test_rows_are_not_all_lists_at_once() -> None:
    rows = [list(range(300 + n, 700 + n)) for n in range(2_000)]
    data = pickle.dumps(objects(rows), protocol=4)
    tracemalloc.start()
    try:
        made = read(data, len(rows))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert made.values.nbytes == 3_200_000
    assert peak < 4 * made.values.nbytes


def test_an_npz_with_objects_is_read_only_when_asked(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=objects(ROWS), y=np.arange(4))
    with pytest.raises(FileError, match="Python objects, which are never loaded"):
        read_npz(tmp_path / "x.npz")
    found = read_npz(tmp_path / "x.npz", objects=True)
    assert [row.tolist() for row in found["x"]] == ROWS
    assert found["y"].tolist() == [0, 1, 2, 3]


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any):
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


MARK = "trainer_was_attacked"
ATTACKS = {
    "os.system": Calls(os.system, f"touch {MARK}"),
    "eval": Calls(eval, f"open({MARK!r}, 'w')"),
    "exec": Calls(exec, f"open({MARK!r}, 'w')"),
    "open": Calls(open, MARK, "w"),
    "getattr": Calls(getattr, os, "system"),
    "import": Calls(__import__, "antigravity"),
    "numpy loader": Calls(np.load, MARK),
    "numpy memmap": Calls(np.memmap, MARK, "uint8", "w+", 0, (3,)),
    "list subclass": Calls(type, "L", (list,), {}),
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("where", ["whole", "row", "entry"])
def test_an_attack_is_refused_and_not_run(
    name: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    thing = ATTACKS[name]
    value: Any = {"whole": thing, "row": objects([thing, [1]]), "entry": objects([[1, thing], [1]])}[where]
    try:
        data = pickle.dumps(value, protocol=4)
    except TypeError:
        # A module can't be pickled as an argument: name it instead.
        data = pickle.dumps(value if where == "whole" else None, protocol=4) if name != "getattr" else GETATTR
    with pytest.raises(FileError, match="expected lists of integers"):
        read(data, 2)
    assert list(tmp_path.iterdir()) == []


GETATTR = b"cbuiltins\ngetattr\n(cos\nenviron\nS'get'\ntR."
RECONSTRUCT = b"cnumpy._core.multiarray\n_reconstruct\n"
NDARRAY = b"cnumpy\nndarray\n"
DTYPE = b"cnumpy\ndtype\n"
ARRAY = RECONSTRUCT + b"(" + NDARRAY + b"(K\x00tC\x01btR"
OBJECT = DTYPE + b"(U\x02O8tR"
STATE = b"(K\x01(K\x01t" + OBJECT + b"\x89"
TRICKS = {
    "getattr": GETATTR,
    "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tolist.x\x93.",
    "another module of numpy": b"cnumpy.testing\nrundocs\n(S'x'\ntR.",
    "reconstruct of another class": RECONSTRUCT + b"(cbuiltins\nlist\n(K\x00tC\x01btR.",
    "only the function": RECONSTRUCT + b".",
    "only the class": NDARRAY + b".",
    "an array with no state": ARRAY + b".",
    "a huge shape": RECONSTRUCT + b"(" + NDARRAY + b"(\x8a\x05\x00\x00\x00\x00\x7ftC\x01btR.",
    "numbers for objects": ARRAY + b"(K\x01(K\x01t" + DTYPE + b"(U\x02i8tR\x89C\x08abcdefghtb.",
    "bytes for a list": ARRAY + STATE + b"C\x08abcdefghtb.",
    "a tuple for a list": ARRAY + STATE + b"((lttb.",
    "a string for a row": ARRAY + STATE + b"(lU\x02abatb.",
    "a state of no sense": ARRAY + b"K\x05b.",
    "a dict as state": ARRAY + b"}U\x04rowsK\x01sb.",
    "change the class": NDARRAY + b"N}U\x08__init__K\x01s\x86b.",
    "change the function": RECONSTRUCT + b"N}U\x0c__defaults__K\x01s\x86b.",
    "an extension": b"\x82\x01.",
    "a persistent name": b"Pname\n.",
    "a list that holds itself": ARRAY + STATE + b"(l(l\x94h\x00a" + b"atb.",
    "many marks": b"(" * 100_000 + b".",
    "deep lists": b"(l" * 20_000 + b"a" * 19_999 + b".",
    "an end too soon": ARRAY[:-4],
    "an entry of a memo of two gigabytes": b"\x80\x03]r\x00\x00\x00\x08.",
    "an entry of a large memo": b"\x80\x03]r\xff\xff\xff\x7f.",
    "an entry of the largest memo": b"\x80\x03]r\xff\xff\xff\xff.",
    "a long text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"x.",
    "a long frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"x.",
    "a long integer": b"\x80\x03\x8b\xff\xff\xff\x7f.",
    "no protocol": b"\x80\xff.",
    "nothing": b"",
}


@pytest.mark.parametrize("name", TRICKS)
def test_a_trick_is_refused(name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FileError, match="expected lists of integers"):
        read(TRICKS[name], 1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * SPARE_BYTES / 1024


SHARED = b")\x94" + b"".join(bytes((ord("h"), n, ord("h"), n, 0x86, 0x94)) for n in range(26))
"A tuple of twice a tuple of twice a tuple: 156 bytes, and 2^26 steps to hash."
HASHED = {
    "a key": b"}" + SHARED + b"Ns",
    "keys": b"}(" + SHARED + b"Nu",
    "a dict at once": b"(" + SHARED + b"Nd",
    "a member of a set": b"\x8f(" + SHARED + b"\x90",
    "a frozen set": b"(" + SHARED + b"\x91",
    "a row": ARRAY + STATE + b"](" + b"}" + SHARED + b"Ns" + b"etb",
    "an option": NDARRAY + b")}" + SHARED + b"Ns\x92",
    "a persistent name": SHARED + b"Q",
}


@pytest.mark.parametrize("name", HASHED)
def test_nothing_that_the_file_builds_is_hashed(name: str) -> None:
    start = time.perf_counter()
    with pytest.raises(FileError, match=r"the opcode b'.*', which lists of integers have no use for"):
        read(b"\x80\x04" + HASHED[name] + b".", 1)
    assert time.perf_counter() - start < 0.5


def test_shared_tuples_that_are_not_hashed_end_soon() -> None:
    start = time.perf_counter()
    for data in (SHARED, ARRAY + STATE + b"](" + SHARED + b"etb", NDARRAY + SHARED + b"\x93", SHARED + SHARED + b"R"):
        with pytest.raises(FileError, match="expected lists of integers"):
            read(b"\x80\x04" + data + b".", 1)
    assert time.perf_counter() - start < 0.5


def test_the_pieces_of_the_tricks_make_an_array_when_put_together_rightly() -> None:
    """Else the tricks above could be refused for a slip in their bytes."""
    good = ARRAY + STATE + b"(l(lK\x05aK\x06aatb."
    pickletools.dis(good, out=io.StringIO())
    assert [row.tolist() for row in read(good, 1)] == [[5, 6]]


def test_the_bound_on_memory_is_taken_back() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    read(pickle.dumps(objects(ROWS), protocol=4))
    with pytest.raises(FileError):
        read(b"(")
    assert resource.getrlimit(resource.RLIMIT_AS) == before


@pytest.mark.parametrize("shape", [(), (2, 2), (3,)])
def test_another_shape_than_the_header_says_is_refused(shape: tuple[int, ...]) -> None:
    data = pickle.dumps(objects(ROWS), protocol=4)
    with pytest.raises(FileError):
        object_rows(data, shape, "x.npy")


def test_mutants_of_a_pickle_are_rows_or_a_clean_refusal() -> None:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, objects(ROWS), allow_pickle=True)
    good = stream.getvalue()
    random = np.random.default_rng(0)
    seen = {"read": 0, "refused": 0}
    for _ in range(600):
        data = bytearray(good)
        for at in random.integers(0, len(data), random.integers(1, 4)):
            data[at] = random.integers(0, 256)
        try:
            rows = read_npy(bytes(data), "x.npy", objects=True)
        except FileError:
            seen["refused"] += 1
        else:
            if isinstance(rows, Ragged):
                assert rows.values.dtype in ("int32", "int64")
                assert (np.diff(rows.offsets) >= 0).all()
                assert (rows.offsets[0], rows.offsets[-1]) == (0, len(rows.values))
            seen["read"] += 1
    assert seen["read"] > 10
    assert seen["refused"] > 300
