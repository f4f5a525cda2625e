"""Files made to do harm: refused before memory is taken or another file is touched, here and in the limited child."""

from __future__ import annotations

import base64
import io
import json
import marshal
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.train.recipes import DIGITS, output, trained
from trainer.errors import FileError
from trainer.runs.directory import RunDirectory
from trainer.runs.look import looked_at
from trainer.runs.model_file import read_model
from trainer.train.job import Options
from trainer.train.use import OpenRun

MOST_MEMORY = 500 * 2**20

Make = Callable[[h5py.File], object]


def model(make: Make, **options: object) -> bytes:
    """A whole model without layers, to which something is added."""
    image = io.BytesIO()
    with h5py.File(image, "w", **options) as file:
        file.attrs["model_config"] = '{"class_name": "Sequential", "config": {"layers": []}}'
        file.create_group("model_weights").attrs["layer_names"] = np.array([], "S1")
        make(file)
    return image.getvalue()


def test_the_model_itself_is_read() -> None:
    assert read_model(model(lambda f: None), stranger=True).weights == {}


def low(file: h5py.File, name: str, kind: h5py.h5t.TypeID, shape: tuple[int, ...] = (2,)) -> None:
    h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape))


def declared(shape: tuple[int, ...], **more: object) -> Make:
    return lambda f: f.create_dataset("a", shape, "f4", **more)


def cycle_of_links(file: h5py.File) -> None:
    for number in range(70):
        file[f"g{number}"] = h5py.SoftLink(f"/g{(number + 1) % 70}")


def many_groups_on_one_another(file: h5py.File) -> None:
    group = file
    for _ in range(3000):
        group = group.create_group("g")


def a_group_seen_from_everywhere(file: h5py.File) -> None:
    """Hard links that make 2 ** 40 paths out of 40 groups."""
    group = file.create_group("g")
    for _ in range(40):
        child = group.create_group("a")
        group["b"] = child
        group = child


def references(file: h5py.File) -> None:
    file.create_dataset("a", (1,), h5py.ref_dtype)[0] = file["model_weights"].ref


def regions(file: h5py.File) -> None:
    seen = file.create_dataset("seen", data=np.zeros(4))
    file.create_dataset("a", (1,), h5py.regionref_dtype)[0] = seen.regionref[1:2]


def ragged(file: h5py.File) -> None:
    file.create_dataset("a", (2,), h5py.vlen_dtype("f4"))[0] = np.zeros(10)


def pickled(file: h5py.File) -> None:
    file.create_dataset("a", data=np.void(b"\x80\x04cos\nsystem\n."))


def unknown_filter(file: h5py.File) -> None:
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk((10,))
    made.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())
    h5py.h5d.create(file.id, b"a", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((10,)), made)


def weights_of_another_type(data: np.ndarray) -> Make:
    def make(file: h5py.File) -> None:
        group = file["model_weights"]
        group.attrs["layer_names"] = [b"dense"]
        layer = group.create_group("dense")
        layer.attrs["weight_names"] = [b"kernel"]
        layer.create_dataset("kernel", data=data)

    return make


def attribute(name: str, value: object) -> Make:
    return lambda f: f["model_weights"].attrs.create(name, value)


def a_reference_as_names(file: h5py.File) -> None:
    file["model_weights"].attrs.create("layer_names", file["model_weights"].ref, dtype=h5py.ref_dtype)


def weights_outside(file: h5py.File) -> None:
    """A weight whose name leads to what another program keeps in the same file."""
    group = file["model_weights"]
    group.attrs["layer_names"] = [b"dense"]
    group.create_group("dense").attrs["weight_names"] = [b"/model_weights"]


ATTACKS: dict[str, Make] = {
    "soft link": lambda f: f.__setitem__("a", h5py.SoftLink("/model_weights")),
    "soft link to itself": lambda f: f.__setitem__("a", h5py.SoftLink("/a")),
    "cycle of soft links": cycle_of_links,
    "nested 3,000 deep": many_groups_on_one_another,
    "2 ** 40 paths": a_group_seen_from_everywhere,
    "a petabyte in chunks with a fill value": declared((2**48,), chunks=(2**16,), fillvalue=1.0),
    "a gigabyte of fill value": declared((2**28,), chunks=(2**10,), fillvalue=1.0),
    "64 axes' worth": declared((2,) * 31, chunks=(1,) * 31),
    "a shape beyond 64 bits": declared((2**40, 2**20), chunks=(1, 1)),
    "an unlimited shape": declared((2**45,), chunks=(2**10,), maxshape=(None,)),
    "object references": references,
    "region references": regions,
    "rows of unequal length": ragged,
    "opaque bytes": pickled,
    "unknown filter": unknown_filter,
    "scaled and offset": lambda f: f.create_dataset("a", data=np.zeros(1000, "i4"), scaleoffset=True),
    "complex numbers": lambda f: f.create_dataset("a", data=np.zeros(3, "c8")),
    "arrays as elements": lambda f: low(f, "a", h5py.h5t.array_create(h5py.h5t.NATIVE_FLOAT, (2,))),
    "bit fields": lambda f: low(f, "a", h5py.h5t.STD_B8LE),
    "times": lambda f: low(f, "a", h5py.h5t.UNIX_D32LE),
    "texts as weights": weights_of_another_type(np.array([b"a", b"b"])),
    "numbers of 128 bits as weights": weights_of_another_type(np.zeros(2, np.longdouble)),
    "references as names": a_reference_as_names,
    "numbers as names": attribute("layer_names", [1.0, 2.0]),
    "names that are not there": attribute("layer_names", [b"../../../etc"]),
    "names that lead out of the layer": weights_outside,
    "bytes that are no text": attribute("layer_names", [b"\xff\xfe"]),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_refused_soon_and_in_little_memory(name: str) -> None:
    data = model(ATTACKS[name])
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(FileError) as caught:
        read_model(data)
    assert time.monotonic() - started < 2
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_MEMORY
    assert len(str(caught.value)) < 2000


def test_the_child_says_the_same() -> None:
    for name in ("soft link", "a petabyte in chunks with a fill value", "object references", "unknown filter"):
        data = model(ATTACKS[name])
        with pytest.raises(FileError) as here:
            read_model(data)
        with pytest.raises(FileError) as there:
            looked_at(data)
        assert str(here.value) == str(there.value), name


def test_a_user_block_is_not_looked_over() -> None:
    """HDF5 may begin after any number of bytes of something else; here a file is what its first bytes say."""
    with pytest.raises(FileError, match="expected an HDF5 file"):
        read_model(model(lambda f: None, userblock_size=512))


# Opening a pipe that nobody writes to never returns, so whoever touches it is found out.
@pytest.mark.parametrize("stranger", [False, True])
@pytest.mark.parametrize("how", ["link", "storage", "virtual"])
def test_no_other_file_is_opened(tmp_path: Path, how: str, stranger: bool) -> None:
    trap = tmp_path / "trap"
    os.mkfifo(trap)

    def make(file: h5py.File) -> None:
        if how == "link":
            file["a"] = h5py.ExternalLink(str(trap), "/")
        elif how == "storage":
            file.create_dataset("a", (4,), "u1", external=[(str(trap), 0, 4)])
        else:
            layout = h5py.VirtualLayout((4,), "u1")
            layout[:] = h5py.VirtualSource(str(trap), "a", (4,))
            file.create_virtual_dataset("a", layout)

    (tmp_path / "model.h5").write_bytes(model(make))
    script = "import sys; from pathlib import Path; from trainer.runs.model_file import read_model\n"
    script += f"read_model(Path(sys.argv[1]), stranger={stranger})"
    command = [sys.executable, "-c", script, str(tmp_path / "model.h5")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert "trainer.errors.FileError" in done.stderr


LAMBDA = {
    "class_name": "Lambda",
    "config": {
        "name": "harmless",
        "function": {
            "class_name": "__lambda__",
            "config": {"code": base64.b64encode(marshal.dumps(compile("1/0", "x", "exec"))).decode()},
        },
    },
}

WATCHED = """
import sys
from pathlib import Path
from trainer.runs import look
from trainer.runs.model_file import read_model
whole = read_model(Path(sys.argv[2]), stranger=True)  # imports what reading needs
allowed, seen = ("open", "os.", "subprocess.Popen", "object.", "sys.", "fcntl."), []

def watch(event, arguments):
    if event in ("exec", "compile", "marshal.loads", "pickle.find_class", "code.__new__", "ctypes.dlopen"):
        seen.append(event)
    if event.startswith(("socket.", "shutil.", "os.system", "os.exec", "os.spawn")):
        seen.append(event)
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        seen.append(f"open {arguments[0]} {arguments[1]}")

sys.addaudithook(watch)
found = read_model(Path(sys.argv[1]))
print(found.config["config"]["layers"][0]["class_name"], seen)
"""


def test_a_description_runs_no_code(tmp_path: Path) -> None:
    """A Lambda stays a dict of words: nothing here turns a file's config into objects, and no code is read from it."""
    config = {"class_name": "Sequential", "config": {"name": "a", "layers": [LAMBDA]}}
    (tmp_path / "plain.h5").write_bytes(model(lambda f: None))
    harm = model(lambda f: f.attrs.create("model_config", json.dumps(config)))
    (tmp_path / "model.h5").write_bytes(harm)
    command = [sys.executable, "-c", WATCHED, str(tmp_path / "model.h5"), str(tmp_path / "plain.h5")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "Lambda []\n"


def test_the_description_in_a_runs_file_is_not_what_is_built(tmp_path: Path) -> None:
    """A run is rebuilt from its recipe: another description in `model.h5` changes nothing."""
    folder = trained(tmp_path, DIGITS, "fit.epochs=1").directory
    rows = OpenRun(RunDirectory(folder), Options(device="cpu")).sets.train.columns["image"][:5]
    before = output(OpenRun(RunDirectory(folder), Options(device="cpu")), rows)
    config = {"class_name": "Sequential", "config": {"name": "a", "layers": [LAMBDA]}}
    with h5py.File(folder / "model.h5", "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
    after = output(OpenRun(RunDirectory(folder), Options(device="cpu")), rows)
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("_limit_self(5); open(sys.argv[1], 'wb', 0).write(b'x')", "File too large"),
        ("_limit_self(5); bytearray(2 * look.MEMORY)", "MemoryError"),
        ("_limit_self(0)\nwhile True: pass", "signal"),
    ],
)
def test_the_childs_limits(tmp_path: Path, call: str, says: str) -> None:
    """It writes nothing, takes little memory, and ends."""
    script = f"import sys\nfrom trainer.runs import look\nlook.{call}"
    command = [sys.executable, "-c", script, str(tmp_path / "written")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert says in (done.stderr if done.returncode >= 0 else "signal")
    if (tmp_path / "written").exists():
        assert (tmp_path / "written").read_bytes() == b""


def test_the_child_is_not_led_by_where_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module beside a stranger's file is not imported in place of ours."""
    for name in ("h5py", "trainer", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken in')\n")
    (tmp_path / "model.h5").write_bytes(model(lambda f: None))
    monkeypatch.chdir(tmp_path)
    looked_at(Path("model.h5"))


def test_a_name_is_no_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-").write_bytes(b"text")
    with pytest.raises(FileError, match="expected an HDF5 file, found something else"):
        looked_at(Path("-"))
    Path("-h.h5").write_bytes(model(lambda f: None))
    looked_at(Path("-h.h5"))
