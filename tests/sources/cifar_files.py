"""CIFAR files in their published form: pickles as Python 2's cPickle wrote them (protocol 2), in a .tar.gz file."""

from __future__ import annotations

import io
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def python2(value: Any) -> bytes:
    """A value as Python 2 pickled it: texts without encoding, numpy's old module names."""
    places = iter(range(1, 1 << 31))
    return b"\x80\x02" + _packed(value, places) + b"."


def _put(places: Any) -> bytes:
    at = next(places)
    return b"q" + bytes([at]) if at < 256 else b"r" + struct.pack("<I", at)


def _packed(value: Any, places: Any) -> bytes:
    if isinstance(value, np.ndarray):
        return _array(value, places)
    if isinstance(value, int):
        kinds = ((256, b"K", "<B"), (1 << 16, b"M", "<H"), (1 << 31, b"J", "<i"))
        code, form = next((c, f) for most, c, f in kinds if 0 <= value < most)
        return code + struct.pack(form, value)
    if isinstance(value, str):
        data = value.encode("latin-1")
        head = b"U" + bytes([len(data)]) if len(data) < 256 else b"T" + struct.pack("<i", len(data))
        return head + data + _put(places)
    if isinstance(value, list):
        return b"]" + _put(places) + b"(" + b"".join(_packed(v, places) for v in value) + b"e"
    assert isinstance(value, dict)
    pairs = b"".join(_packed(k, places) + _packed(v, places) for k, v in value.items())
    return b"}" + _put(places) + b"(" + pairs + b"u"


def _array(array: np.ndarray, places: Any) -> bytes:
    made = b"cnumpy.core.multiarray\n_reconstruct\n" + _put(places) + b"cnumpy\nndarray\n" + _put(places)
    made += b"K\x00\x85" + _put(places) + b"U\x01b" + _put(places) + b"\x87" + _put(places) + b"R" + _put(places)
    shape = b"".join(_packed(n, places) for n in array.shape) + b"\x86" + _put(places)
    kind = b"cnumpy\ndtype\n" + _put(places) + b"U\x02u1" + _put(places) + b"K\x00K\x01\x87" + _put(places) + b"R"
    kind += _put(places) + b"(K\x03U\x01|" + _put(places) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    data = array.tobytes("F" if fortran else "C")
    state = b"\x88" if fortran else b"\x89"
    return made + b"(K\x01" + shape + kind + state + b"T" + struct.pack("<i", len(data)) + data + b"tb"


def batch(seed: int, rows: int, classes: dict[str, int], order: Any = "C") -> dict[str, Any]:
    """The values of a file: pictures that differ and labels, each class at least once where there are rows enough."""
    random = np.random.default_rng(seed)
    few = random.integers(0, 256, (min(rows, 8), 3072), "uint8")  # which gzip is quick with
    data = np.asarray(np.resize(few, (rows, 3072)), order=order)
    data[:, 0] = np.arange(rows) % 256
    labels = {k: [int(v) for v in random.permutation(np.arange(rows) % n)] for k, n in classes.items()}
    names = [f"picture_{i}.png" for i in range(rows)]
    return {"batch_label": f"batch {seed}", **labels, "data": data, "filenames": names}


def cifar10(rows: int = 20) -> dict[str, dict[str, Any]]:
    """The files of CIFAR-10."""
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    made = {name: batch(seed, rows, {"labels": 10}) for seed, name in enumerate(names)}
    return made | {"batches.meta": {"num_cases_per_batch": rows, "label_names": TEN, "num_vis": 3072}}


def cifar100(rows: int = 200) -> dict[str, dict[str, Any]]:
    """The files of CIFAR-100."""
    classes = {"fine_labels": 100, "coarse_labels": 20}
    meta = {
        "fine_label_names": [f"thing_{i}" for i in range(100)],
        "coarse_label_names": [f"group_{i}" for i in range(20)],
    }
    return {"train": batch(0, rows, classes), "test": batch(1, rows // 2, classes), "meta": meta}


def write_folder(folder: Path, files: dict[str, Any]) -> None:
    """The files unpacked."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in files.items():
        (folder / name).write_bytes(values if isinstance(values, bytes) else python2(values))


def write_archive(path: Path, folder: str, files: dict[str, Any], more: list[tarfile.TarInfo] | None = None) -> None:
    """The files in a .tar.gz file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz", compresslevel=1, format=tarfile.USTAR_FORMAT) as archive:
        for info in more or []:
            archive.addfile(info, io.BytesIO(bytes(info.size)))
        for name, values in files.items():
            data = values if isinstance(values, bytes) else python2(values)
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
