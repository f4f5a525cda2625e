"""HDF5 files that may be anything: told by content, bounded, refused with one kind of error."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.runs.listings import VALUES, listed
from trainer.activations.elementwise import Linear
from trainer.errors import FileError
from trainer.layers.dense import Dense
from trainer.layers.graph import chain
from trainer.model.network import Network
from trainer.runs import hdf5
from trainer.runs.hdf5 import opened
from trainer.runs.image import HEADER_LIMIT, SLAB, SMALL, Listing, _Array, _Group, _layout
from trainer.runs.look import looked_at
from trainer.runs.model_file import model_bytes, read_model, weights_bytes


def network(units: int = 3) -> Network:
    layers = [Dense(units=units, name="first"), Dense(units=2, activation=Linear())]
    return Network(chain(layers, {"features": (None, 4)}), seed=1)


@pytest.fixture(scope="module")
def good() -> bytes:
    return model_bytes(network(), {"loss": "mean_squared_error"}, {"step": 3, "slots": {"m": np.arange(6.0)}})


def built(make: Callable[[h5py.File], object]) -> bytes:
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        file.attrs["model_config"] = "{}"
        make(file)
    return image.getvalue()


def refused(source: bytes | Path, says: str) -> FileError:
    with pytest.raises(FileError, match=says) as caught:
        read_model(source)
    assert caught.value.exit_code == 3
    return caught.value


def test_reads_what_was_written(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(good)
    for source in (good, path):
        for stranger in (False, True):
            found = read_model(source, stranger=stranger)
            assert found.keras_version == "3.15.1"
            assert found.config["class_name"] == "Sequential"
            assert found.training_config == {"loss": "mean_squared_error"}
            assert list(found.weights) == ["first", "dense"]
            arrays = [a for layer in found.weights.values() for a in layer]
            for ours, theirs in zip(network().get_weights(), arrays, strict=True):
                np.testing.assert_array_equal(ours, theirs)
            assert found.extra["step"] == 3
            np.testing.assert_array_equal(found.extra["slots"]["m"], np.arange(6.0))


def test_extra_keeps_types_and_values() -> None:
    arrays = [np.arange(3, dtype=k) for k in ("float32", "float64", "float16", "int64", "uint8")]
    arrays += [np.array([True, False]), np.zeros((0, 3), "float32"), np.array(2.5)]
    plain = {
        "none": None,
        "yes": True,
        "n": 2**60,
        "x": float("nan"),
        "y": 0.1,
        "text": "\n\0ß",
        "list": [1, {"a": []}],
    }
    found = read_model(model_bytes(network(), None, {"arrays": arrays, "a/b.c": plain, "": ""})).extra
    for ours, theirs in zip(arrays, found["arrays"], strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    assert np.isnan(found["a/b.c"].pop("x"))
    assert found["a/b.c"] == {k: v for k, v in plain.items() if k != "x"}


def test_extra_larger_than_an_attribute() -> None:
    history = [i / 7 for i in range(20_000)]
    assert read_model(model_bytes(network(), None, {"history": history})).extra == {"history": history}


@pytest.mark.parametrize("value", [np.array(["a"]), np.array([object()]), np.array([1j])])
def test_extra_that_cannot_be_kept(value: np.ndarray) -> None:
    with pytest.raises(TypeError, match="can't be kept in a model file"):
        model_bytes(network(), None, {"a": value})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 130\n", "a Git LFS pointer"),
        (pickle.dumps({"weights": [1.0]}, protocol=4), "a Python pickle"),
        (pickle.dumps([1], protocol=2), "a Python pickle"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\n  <html>", "a web page"),
        (b"epoch,loss\n", "something else"),
        (b"\x89HDF", "an HDF5 file that was changed"),
        (b"\x00" * 4096, "something else"),
    ],
)
def test_told_by_content(data: bytes, says: str, tmp_path: Path) -> None:
    assert refused(data, f"expected an HDF5 file, found {says}").problems[0].hint
    path = tmp_path / "model.h5"
    path.write_bytes(data)
    assert str(path) in str(refused(path, says))
    with pytest.raises(FileError, match=says):
        looked_at(path)


def test_zip_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.h5", "w") as archive:
        archive.writestr("metadata.json", "{}")
    refused(tmp_path / "model.h5", "a zip archive")


@pytest.mark.parametrize("change", [(b"\r\n", b"\n"), (b"\n", b"\r\n")])
def test_line_ends_changed(good: bytes, change: tuple[bytes, bytes]) -> None:
    refused(good.replace(*change), "changed as if it were text")


def test_text_decoded_and_encoded(good: bytes) -> None:
    refused(good.decode("utf-8", "replace").encode(), "changed as if it were text")


def test_missing_and_unreadable(tmp_path: Path) -> None:
    refused(tmp_path / "gone.h5", "there is no file")
    refused(tmp_path, "can't be read")
    with pytest.raises(FileError, match="can't be read"):
        looked_at(tmp_path / "gone.h5")


def test_truncated(good: bytes, tmp_path: Path) -> None:
    for length in (9, 100, 2048, len(good) // 2, len(good) - 1):
        error = refused(good[:length], "expected a whole HDF5 file, found")
        assert "damaged" in error.problems[0].hint
    path = tmp_path / "cut.h5"
    path.write_bytes(good[:5000])
    refused(path, "truncated file: eof = 5000")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda f: f.create_group("vars"), "weights without a model"),
        (lambda f: f.attrs.create("layer_names", [b"a"]), "weights without a model"),
        (lambda f: f.create_group("other"), "it holds: other"),
        (lambda f: None, "it holds: nothing"),
    ],
)
def test_no_whole_model(make: Callable[[h5py.File], object], says: str) -> None:
    def without(file: h5py.File) -> None:
        del file.attrs["model_config"]
        make(file)

    refused(built(without), says)
    # Keras's own weights file is one of these too.
    refused(weights_bytes(network()), "weights without a model")


def soft(file: h5py.File) -> None:
    file["a"] = h5py.SoftLink("/etc")


def external(file: h5py.File) -> None:
    file["a"] = h5py.ExternalLink("/etc/passwd", "/")


def external_storage(file: h5py.File) -> None:
    file.create_dataset("a", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource("/etc/passwd", "a", (4,))
    file.create_virtual_dataset("a", layout)


def foreign_filter(file: h5py.File) -> None:
    file.create_dataset("a", data=np.zeros(1000), compression="lzf")


def bomb(file: h5py.File) -> None:
    file.create_dataset("a", (10**12,), "u1", chunks=(2**20,), compression="gzip")


def large_chunk(file: h5py.File) -> None:
    file.create_dataset("a", (1,), "u1", chunks=(2**30,), maxshape=(None,))


def many_small_bombs(file: h5py.File) -> None:
    for number in range(40):
        file.create_dataset(f"a{number}", (10_000_000,), "u1", chunks=(2**20,), compression="gzip")


def unstored(file: h5py.File) -> None:
    file.create_dataset("a", (10**9,), "f4")


def loop(file: h5py.File) -> None:
    group = file.create_group("a")
    group.create_group("b")["c"] = group


def deep(file: h5py.File) -> None:
    file.create_group("/".join("a" * 100))


def text_data(file: h5py.File) -> None:
    file.create_dataset("a", data=["x"], dtype=h5py.string_dtype())


def records(file: h5py.File) -> None:
    file.create_dataset("a", data=np.zeros(2, [("x", "f4"), ("y", "f4")]))


def references(file: h5py.File) -> None:
    file.create_dataset("a", (1,), h5py.ref_dtype)


def shapeless(file: h5py.File) -> None:
    file["a"] = h5py.Empty("f4")


def named_type(file: h5py.File) -> None:
    file["a"] = np.dtype("f4")


NOT_LET_IN = [
    (soft, "SoftLink, and only hard links"),
    (external, "ExternalLink, and only hard links"),
    (external_storage, "data stand in other files"),
    (virtual, "data stand in other files"),
    (foreign_filter, "only the filters deflate, shuffle, fletcher32"),
    (bomb, "far more data than it can hold"),
    (large_chunk, "far more data than it can hold"),
    (many_small_bombs, "far more data than it can hold"),
    (unstored, "declares 4000000000 bytes and holds 0"),
    (loop, "a loop"),
    (deep, "a group within itself"),
    (text_data, "data of another type"),
    (records, "data of another type"),
    (references, "data of another type"),
    (shapeless, "without a shape"),
    (named_type, "found a Datatype"),
]


@pytest.mark.parametrize(("make", "says"), NOT_LET_IN, ids=[m.__name__ for m, _ in NOT_LET_IN])
def test_not_let_in(make: Callable[[h5py.File], object], says: str) -> None:
    refused(built(make), says)


def test_refused_by_the_child_too(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(built(bomb))
    with pytest.raises(FileError, match="far more data"):
        read_model(path, stranger=True)


def test_too_many_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "MOST_OBJECTS", 10)
    refused(built(lambda f: [f.create_group(str(i)) for i in range(11)]), "at most 10 objects")


def test_filters_that_are_let_in() -> None:
    values = np.arange(2000.0)

    def make(file: h5py.File) -> None:
        file.create_dataset("a", data=values, compression="gzip", shuffle=True, fletcher32=True)

    with opened(built(make)) as file:
        np.testing.assert_array_equal(hdf5.array(file, "a"), values)


def config(words: str | bytes) -> bytes:
    return built(lambda f: f.attrs.create("model_config", words))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (config("{"), "model_config: expected JSON"),
        (config("[1]"), "expected a JSON object, found list"),
        (config("[" * 100_000), "model_config: expected JSON"),
        (built(lambda f: f.attrs.create("model_config", 3)), "attribute model_config to be text"),
        (built(lambda f: f.attrs.create("model_config", [b"a", b"b"])), "attribute model_config to be text"),
        (built(lambda f: None), "expected a group model_weights, found none"),
        (
            built(lambda f: f.create_dataset("model_weights", data=1.0)),
            "expected a group model_weights, found an array",
        ),
        (built(lambda f: f.create_group("model_weights")), "expected the attribute layer_names, found none"),
        (built(lambda f: f.create_group("model_weights").attrs.create("layer_names", [1])), "layer_names to be text"),
        (built(lambda f: f.create_group("model_weights").attrs.create("layer_names", [b"a"])), "expected a group a"),
    ],
)
def test_not_a_model(data: bytes, says: str) -> None:
    refused(data, says)


def layers_of(make: Callable[[h5py.Group], object]) -> bytes:
    def group(file: h5py.File) -> None:
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = [b"a"]
        make(weights.create_group("a"))

    return built(group)


def test_weights_that_are_not_there() -> None:
    refused(layers_of(lambda g: g.attrs.create("weight_names", [b"kernel"])), "kernel")
    refused(layers_of(lambda g: (g.attrs.create("weight_names", [b"k"]), g.create_group("k"))), "found a group")


@pytest.mark.parametrize(
    "words",
    [b"", b"[]", b'{"a": {"$array": "7"}}', b'{"a": {"$float": "x"}}', b"[" * 100_000, b'{"a": {"$array": []}}'],
)
def test_damaged_state_of_ours(good: bytes, words: bytes) -> None:
    image = io.BytesIO(good)
    with h5py.File(image, "r+") as file:
        del file["trainer/json"]
        file.create_dataset("trainer/json", data=np.frombuffer(words, np.uint8))
    with pytest.raises(FileError):
        read_model(image.getvalue())


def test_long_lists_of_names_are_cut_and_read_back() -> None:
    names = [f"{'layer' * 20}_{i}" for i in range(2000)]
    listing = Listing()
    listing.names("", "layer_names", names)
    with opened(bytes(listing.image())) as file:
        assert "layer_names" not in file.attrs
        assert all(file.attrs[k].nbytes <= HEADER_LIMIT for k in file.attrs)
        assert hdf5.texts(file, "layer_names") == names


@pytest.mark.parametrize("large", [False, True])
def test_a_layout_is_kept_and_its_numbers_are_not(monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    """The second file of a shape holds its own numbers, and the first is as it was."""
    if large:
        monkeypatch.setattr("trainer.runs.image.SMALL", 0)
    first = bytes(listed(VALUES, b"1" * 64).image())
    second = bytes(listed(VALUES, b"2" * 64, flipped=True).image())
    assert first == bytes(listed(VALUES, b"1" * 64).image())
    assert len(first) == len(second) != 0
    for image, mark, flipped in ((first, b"1" * 64, False), (second, b"2" * 64, True)):
        with h5py.File(io.BytesIO(image)) as file:
            group = file["a"]
            assert isinstance(group, h5py.Group)
            assert file.attrs["which"] == "this"
            assert group.attrs["digest"] == mark
            assert hdf5.texts(group, "names") == ["x", "longer"]
            for number, value in enumerate(VALUES):
                held = group[f"deep/{number}"]
                assert isinstance(held, h5py.Dataset)
                assert held.dtype == value.dtype
                np.testing.assert_array_equal(held[()], value[::-1] if flipped and value.ndim else value)


@pytest.mark.parametrize("order", ["C", "F", "strided", "flat and strided"])
def test_large_arrays_come_in_pieces(order: str) -> None:
    """The file is what it is in one piece, and what it takes beside the arrays is a slab and its own few pages."""
    values = np.arange(12 * SLAB // 4, dtype="float32").reshape(-1, 48)
    if order != "C":
        values = {"F": values.T, "strided": values[::2, 1:], "flat and strided": values.reshape(-1)[::2]}[order]
    few = np.arange(3.0)
    listing = listed([few, values, few])
    image = listing.image()
    pieces = list(image)
    assert len(image) == sum(map(len, pieces)) > SMALL
    assert max(map(len, pieces)) <= SLAB
    assert bytes(image) == b"".join(pieces)
    with h5py.File(io.BytesIO(bytes(image))) as file:
        for number, expected in enumerate([few, values, few]):
            held = file[f"a/deep/{number}"]
            assert isinstance(held, h5py.Dataset)
            np.testing.assert_array_equal(held[()], expected)


def test_a_layout_has_no_room_for_the_numbers() -> None:
    """Its bytes are those that HDF5 writes by itself into a file."""
    layout, (place, end) = _layout([_Array("a", "<f4", (1000, 5000)), _Group("b"), _Array("b/c", "<f8", (3,))])
    assert len(layout) > 20_000_000
    assert sum(map(len, layout._pages.values())) < 200_000
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset("a", data=np.zeros((1000, 5000), "<f4"))
        file.create_group("b")
        file.create_dataset("b/c", data=np.zeros(3))
        assert [file[name].id.get_offset() for name in ("a", "b/c")] == [place, end]
    assert layout[:] == stream.getvalue()
    assert layout[place : place + 20] == bytes(20)


MADE = """
import sys
import numpy as np
from tests.runs.listings import VALUES, listed
sys.stdout.buffer.write(b"%d" % ("h5py" in sys.modules))
made = listed([*VALUES, np.arange(SIZE, dtype="float32")]).image()
sys.stdout.buffer.write(bytes(made) + b"%d" % ("h5py" in sys.modules))
"""


def made_elsewhere(cache: Path, size: int) -> tuple[bytes, bool]:
    """The bytes of a listing in a process of its own, and whether that loaded HDF5."""
    env = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "", "XDG_CACHE_HOME": str(cache)}
    script = MADE.replace("SIZE", str(size))
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, env=env, check=True).stdout
    assert out[:1] == b"0"
    return out[1:-1], out[-1:] == b"1"


@pytest.mark.parametrize("size", [3, SMALL // 2])
def test_a_layout_is_kept_for_later_processes(tmp_path: Path, size: int) -> None:
    first = made_elsewhere(tmp_path, size)
    assert first == (bytes(listed([*VALUES, np.arange(size, dtype="float32")]).image()), True)
    assert made_elsewhere(tmp_path, size) == (first[0], False)
    (file,) = (tmp_path / "trainer" / "layouts").iterdir()
    data = file.read_bytes()
    assert len(data) < 100_000
    file.write_bytes(data[:900] + bytes([data[900] ^ 1]) + data[901:])
    assert made_elsewhere(tmp_path, size) == first
    file.chmod(0o666)
    assert made_elsewhere(tmp_path, size) == first


def test_equal_content_gives_equal_bytes(good: bytes) -> None:
    """In another process, at another time, with another hash seed."""
    script = """
import hashlib, sys
import numpy as np
from tests.runs.test_hdf5 import network
from trainer.runs.model_file import model_bytes
extra = {"step": 3, "slots": {"m": np.arange(6.0)}}
sys.stdout.write(hashlib.sha256(model_bytes(network(), {"loss": "mean_squared_error"}, extra)).hexdigest())
"""
    root = str(Path(__file__).parents[2])
    env = {"PYTHONPATH": root, "PYTHONHASHSEED": "7", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, check=True)
    assert done.stdout == hashlib.sha256(good).hexdigest()


def test_the_child_needs_no_torch() -> None:
    script = "import sys, trainer.runs.look, trainer.runs.hdf5, h5py; sys.stdout.write(str('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False"


def test_the_child_is_stopped_when_it_takes_too_long(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(good)
    with pytest.raises(FileError, match="reading did not end within"):
        looked_at(path, seconds=0.001)


def test_a_crash_is_told(good: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(FileError, match="crashed the HDF5 library"):
        looked_at(good)


def test_the_child_has_little_memory() -> None:
    script = """
import sys
from trainer.runs import look
look._limit_self(10)
try:
    bytearray(look.MEMORY)
except MemoryError:
    sys.stdout.write("refused")
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "refused"


def mutant(data: bytes, number: int) -> bytes:
    """The file with 1 to 8 bytes changed, half of them in the part that describes its structure."""
    dice = random.Random(number)
    made = bytearray(data)
    for _ in range(dice.randint(1, 8)):
        end = dice.choice([len(made), 4096])
        made[dice.randrange(8, end)] = dice.choice([0, 1, 255, dice.randrange(256)])
    return bytes(made)


MUTANTS = """
import signal, sys
from pathlib import Path
from tests.runs.test_hdf5 import mutant
from trainer.errors import FileError
from trainer.runs.model_file import read_model
data = Path(sys.argv[1]).read_bytes()
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
    signal.alarm(2)  # no handler: the system ends the process, even within the C library
    try:
        read_model(mutant(data, number))
    except FileError:
        sys.stdout.write("refused\\n")
"""


def read_mutants(path: Path, start: int, stop: int) -> tuple[int, list[int]]:
    """(how many were refused, those on which the process hung or crashed); each of these ends a process."""
    refusals, stuck = 0, []
    while start < stop:
        command = [sys.executable, "-c", MUTANTS, str(path), str(start), str(stop)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = done.stdout.split()
        refusals += lines.count("refused")
        assert "Traceback" not in done.stderr, done.stderr
        if done.returncode == 0:
            break
        last = max(int(line) for line in lines if line != "refused")
        stuck.append(last)
        start = last + 1
    return refusals, stuck


def hold_mutants(data: bytes, path: Path, count: int) -> None:
    path.write_bytes(data)
    refusals, stuck = read_mutants(path, 0, count)
    assert count // 10 < refusals < count, "mutation should break some files and leave others readable"
    for number in stuck:
        with pytest.raises(FileError):
            looked_at(mutant(data, number), seconds=3)


def test_mutants_are_refused_or_read(good: bytes, tmp_path: Path) -> None:
    hold_mutants(good, tmp_path / "good.h5", 300)


def test_mutants_through_the_child(good: bytes) -> None:
    outcomes = {"read": 0, "refused": 0}
    for number in range(8):
        try:
            read_model(mutant(good, 1000 + number), stranger=True)
            outcomes["read"] += 1
        except FileError:
            outcomes["refused"] += 1
    assert all(outcomes.values()), outcomes


@pytest.mark.long
def test_4000_mutants(good: bytes, tmp_path: Path) -> None:
    hold_mutants(good, tmp_path / "good.h5", 4000)


def test_json_of_a_model_is_plain(good: bytes) -> None:
    with opened(good) as file:
        assert json.loads(str(hdf5.text(file, "model_config")))["config"]["name"] == "model"
