"""Pickles read as data: the published form and later ones are read, everything else is refused and nothing is run."""

from __future__ import annotations

import os
import pickle
import resource
import struct
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sources.cifar_files import batch, python2
from trainer.errors import FileError
from trainer.sources import opcodes
from trainer.sources.opcodes import ByteArray, read_values


def test_the_published_form_is_read() -> None:
    values = batch(3, 300, {"labels": 10})
    data = python2(values)
    read = read_values(data, "x")
    assert list(read) == [k.encode() for k in values]
    assert read[b"labels"] == values["labels"]
    assert read[b"filenames"] == [n.encode() for n in values["filenames"]]
    assert read[b"data"] == ByteArray((300, 3072), "C", values["data"].tobytes())


def test_the_published_form_of_the_tests_is_a_pickle() -> None:
    """Else the reader and the writer could share a mistake."""
    values = batch(3, 300, {"labels": 10})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's of old dtypes
        theirs = pickle.loads(python2(values), encoding="latin-1")
    assert theirs["labels"] == values["labels"]
    np.testing.assert_array_equal(theirs["data"], values["data"])


@pytest.mark.parametrize("protocol", [3, 4])
def test_what_python_3_writes_is_read(protocol: int) -> None:
    array = np.arange(12, dtype="uint8").reshape(3, 4)
    values = {b"a": [1, 300, 70000, -5, True, None], "é": (b"x", "y", ()), b"data": array, b"again": {b"k": 2**40}}
    read = read_values(pickle.dumps(values, protocol=protocol), "x")
    assert read == {
        b"a": [1, 300, 70000, -5, True, None],
        "é".encode(): (b"x", b"y", ()),
        b"data": ByteArray((3, 4), "C", array.tobytes()),
        b"again": {b"k": 2**40},
    }


@pytest.mark.parametrize(
    "array", [np.arange(3), np.ones((2, 2), "float32"), np.array(["a"]), np.array([[], 1], object)]
)
def test_an_array_of_anything_but_bytes_is_refused(array: Any) -> None:
    with pytest.raises(FileError, match="an array of something else than bytes"):
        read_values(pickle.dumps({b"data": array}, protocol=3), "x")


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any):
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


MARK = "trainer_was_attacked"


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "thing",
    [
        Calls(os.system, f"touch {MARK}"),
        Calls(eval, f"open({MARK!r}, 'w')"),
        Calls(open, MARK, "w"),
        Calls(np.memmap, MARK, "uint8", "w+", 0, (3,)),
        Calls(__import__, "antigravity"),
    ],
    ids=["system", "eval", "open", "memmap", "import"],
)
def test_an_attack_is_refused_and_not_run(
    thing: Any, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for value in (thing, {b"labels": thing}, {b"data": [thing]}):
        with pytest.raises(FileError, match="expected a pickled dict"):
            read_values(pickle.dumps(value, protocol=protocol), "x")
    assert list(tmp_path.iterdir()) == []


NDARRAY = b"cnumpy\nndarray\n"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
ARRAY = RECONSTRUCT + b"(" + NDARRAY + b"(K\x00tU\x01btR"
TYPE = b"cnumpy\ndtype\n(U\x02u1tR"
# A tuple of the last one twice, many times over: as a key, it is hashed for years.
DOUBLED = b")q\x00" + b"h\x00\x86q\x00" * 200
TRICKS = {
    "a tuple as key": b"}" + DOUBLED + b"K\x01s.",
    "a number as key": b"}K\x01K\x01s.",
    "a name that is built": b"}U\x01a\x8c\x05posix\x8c\x06system\x93s.",
    "a dotted name": b"}U\x01a\x8c\x05numpy\x8c\x0fndarray.tolist.x\x93s.",
    "an old instance": b"(ios\nsystem\n.",
    "an object": b"(cnumpy\nndarray\no.",
    "a new object": NDARRAY + b")\x81.",
    "a call of the class": b"}U\x01a" + NDARRAY + b")Rs.",
    "a call of a text": b"}U\x01aU\x01b)Rs.",
    "a call without a tuple": b"}U\x01a" + RECONSTRUCT + b"]Rs.",
    "a dtype of nothing": b"}U\x01acnumpy\ndtype\n)Rs.",
    "a state for a list": b"}U\x01a]K\x05bs.",
    "a state of no sense": b"}U\x01a" + ARRAY + b"K\x05bs.",
    "a shape of texts": b"}U\x01a" + ARRAY + b"(K\x01(U\x01at" + TYPE + b"\x89U\x01atbs.",
    "a shape of none": b"}U\x01a" + ARRAY + b"(K\x01N" + TYPE + b"\x89U\x01atbs.",
    "bytes that are a list": b"}U\x01a" + ARRAY + b"(K\x01(K\x01t" + TYPE + b"\x89]tbs.",
    "an extension": b"\x82\x01.",
    "a persistent name": b"Pname\n.",
    "an open mark": b"}(.",
    "two values": b"}}.",
    "nothing on the stack": b".",
    "no end": b"}",
    "an empty file": b"",
    "a mark that is not there": b"}u.",
    "half a pair": b"}(U\x01au.",
    "pairs for a list": b"](U\x01aK\x01u.",
    "entries for a dict": b"}(K\x01e.",
    "a memo of nothing": b"h\x05.",
    "a memo of a large number": b"}r\xff\xff\xff\xffj\xfe\xff\xff\xff.",
    "a long text": b"}\x8d" + struct.pack("<Q", 1 << 60) + b"x.",
    "a text of less than nothing": b"}T\xff\xff\xff\xffx.",
    "a long frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"x.",
    "a long integer": b"}\x8b\xff\xff\xff\x7f.",
    "a long number in digits": b"}L" + b"9" * 100_000 + b"L\n.",
    "a fraction": b"}U\x01aG\x00\x00\x00\x00\x00\x00\x00\x00s.",
    "many marks": b"(" * 900_000 + b".",
    "marks over much": b"]" * 400_000 + b"(t" * 200_000 + b".",
    "many lists": b"]" * 1_100_000 + b".",
    "deep lists": b"]" * 400_000 + b"a" * 399_999 + b".",
    "a tuple of more than there is": b"K\x01\x87.",
}


@pytest.mark.parametrize("name", TRICKS)
def test_a_trick_is_refused_in_little_time_and_memory(name: str) -> None:
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with pytest.raises(FileError, match="x: expected a pickled dict"):
        read_values(TRICKS[name], "x")
    assert time.perf_counter() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10


def test_the_pieces_of_the_tricks_make_an_array_when_put_together_rightly() -> None:
    """Else the tricks above could be refused for a slip in their bytes."""
    good = b"}U\x01a" + ARRAY + b"(K\x01(K\x01t" + TYPE + b"(K\x03tb\x89U\x01ztbs."
    assert read_values(good, "x") == {b"a": ByteArray((1,), "C", b"z")}
    assert read_values(b"}U\x01a" + b")q\x00" + b"h\x00\x86q\x00" * 3 + b"s.", "x") == {
        b"a": ((((), ()), ((), ())), (((), ()), ((), ())))
    }


def test_steps_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    data = python2({"a": [1, 2, 3]})
    monkeypatch.setattr(opcodes, "MOST_STEPS", 15)
    assert read_values(data, "x") == {b"a": [1, 2, 3]}
    monkeypatch.setattr(opcodes, "MOST_STEPS", 14)
    with pytest.raises(FileError, match="more than 14 steps"):
        read_values(data, "x")


def test_mutants_of_a_pickle_are_values_or_a_clean_refusal() -> None:
    good = python2(batch(0, 3, {"labels": 10}) | {"data": np.zeros((3, 8), "uint8")})
    random = np.random.default_rng(0)
    seen = {"read": 0, "refused": 0}
    for _ in range(3000):
        data = bytearray(good)
        for at in random.integers(0, len(data), random.integers(1, 4)):
            data[at] = random.integers(0, 256)
        try:
            assert all(type(k) is bytes for k in read_values(bytes(data), "x"))
        except FileError:
            seen["refused"] += 1
        else:
            seen["read"] += 1
    assert seen["read"] > 100
    assert seen["refused"] > 1000
