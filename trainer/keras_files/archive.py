"""Zip archives of Keras (`.keras`), read by the names of their members: nothing is unpacked, sizes are counted."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainer.errors import FileError
from trainer.runs.hdf5 import Section
from trainer.wording import clean

MOST_MEMBERS = 100_000
MOST_TEXT = 64 * 2**20
"Bytes of a description or of all vocabularies together."
FREE_BYTES = 32 * 2**20
"A packed member that says so much of itself is never a bomb."
MOST_EXPANSION = 20
SLAB = 2**20
CONFIG, METADATA, WEIGHTS, ASSETS = "config.json", "metadata.json", "model.weights.h5", "assets/"
_BROKEN = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError, struct.error)
_HINT = "copy or download it again"


@dataclass(frozen=True)
class Archive:
    """What a `.keras` file holds."""

    config: bytes
    metadata: bytes | None
    weights: Section | bytes | None
    "The HDF5 file inside: where it stands in the archive, or its bytes where it was packed."
    assets: Mapping[str, bytes]


def read_archive(path: Path) -> Archive:
    """The members of a `.keras` file, each held against its checksum.

    Raises:
        FileError: no `.keras` file, damaged, or larger than it says.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive, path)
    except (*_BROKEN, NotImplementedError) as error:
        message = f"{path}: expected a whole .keras file, which this is not or no longer: {clean(error)}"
        raise FileError(message, hint=_HINT) from None


def _read(archive: zipfile.ZipFile, path: Path) -> Archive:
    members = _members(archive, path)
    if CONFIG not in members:
        raise FileError(f"{path}: expected a .keras file, found {_other(members)}", hint=_what_to_do(members))
    room = MOST_TEXT
    assets: dict[str, bytes] = {}
    for name, member in members.items():
        if name.startswith(ASSETS) and not name.endswith("/"):
            assets[name] = _content(archive, member, room, path)
            room -= len(assets[name])
    metadata = _content(archive, members[METADATA], MOST_TEXT, path) if METADATA in members else None
    weights = _weights(archive, members[WEIGHTS], path) if WEIGHTS in members else None
    return Archive(_content(archive, members[CONFIG], MOST_TEXT, path), metadata, weights, assets)


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The members by name.

    Raises:
        FileError: too many, one of a name that leads elsewhere, or two of one name.
    """
    listed = archive.infolist()
    if len(listed) > MOST_MEMBERS:
        raise FileError(f"{path}: expected at most {MOST_MEMBERS} members of the archive, found {len(listed)}")
    members: dict[str, zipfile.ZipInfo] = {}
    for member in listed:
        name = member.filename
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name.split("/")[0]:
            raise FileError(f"{path}: the archive holds {clean(name)}, a name that leads out of it")
        if name in members:
            raise FileError(f"{path}: the archive holds {clean(name)} twice", hint=_HINT)
        members[name] = member
    return members


def _other(members: Mapping[str, zipfile.ZipInfo]) -> str:
    """What else an archive is."""
    if any(name.endswith(("data.pkl", "/data.pkl")) for name in members):
        return "a file of PyTorch, whose parts are pickles"
    if any(name.endswith("saved_model.pb") for name in members):
        return "a packed SavedModel of TensorFlow"
    if any(name.endswith(".npy") for name in members):
        return "arrays of numpy (.npz)"
    return f"an archive with {', '.join(clean(n) for n in list(members)[:4]) or 'nothing'}"


def _what_to_do(members: Mapping[str, zipfile.ZipInfo]) -> str:
    if any(name.endswith("saved_model.pb") for name in members):
        return "in TensorFlow with Keras 2: tf.keras.models.load_model(FOLDER).save('model.h5')"
    return "give a model file that Keras wrote: .keras, .h5, .weights.h5 or .json"


def _checked(member: zipfile.ZipInfo, most: int, path: Path) -> None:
    """Refuse a member that says it is too large, or that unpacks to far more than it takes."""
    size = member.file_size
    if size > most:
        raise FileError(f"{path}: {clean(member.filename)} would take {size} bytes; at most {most} are read")
    if size > max(FREE_BYTES, MOST_EXPANSION * member.compress_size):
        message = f"{path}: {clean(member.filename)} would unpack {member.compress_size} bytes to {size}"
        raise FileError(message, hint="no model is packed so tightly: the file was made to do harm")


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int, path: Path) -> bytes:
    """The bytes of a member, which is refused when it is longer than it says."""
    _checked(member, most, path)
    with archive.open(member) as stream:
        data = stream.read(member.file_size + 1)
    if len(data) != member.file_size:
        raise FileError(f"{path}: {clean(member.filename)} is not as long as it says", hint=_HINT)
    return data


def _weights(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Section | bytes:
    """The HDF5 file inside; where it is stored as it is, read through once for its checksum and left in its place."""
    if member.compress_type != zipfile.ZIP_STORED:
        return _content(archive, member, 2**40, path)
    if member.file_size != member.compress_size:
        raise FileError(f"{path}: {clean(member.filename)} is not as long as it says", hint=_HINT)
    with archive.open(member) as stream:
        while stream.read(SLAB):
            pass
    return Section(path, _start(path, member), member.file_size)


def _start(path: Path, member: zipfile.ZipInfo) -> int:
    """Where the bytes of a stored member begin: after its own header, whose two texts the directory does not tell."""
    with open(path, "rb") as file:
        file.seek(member.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
    return member.header_offset + 30 + name + extra
