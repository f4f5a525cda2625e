"""NPY and NPZ files read with bounds: a declared shape is held against the bytes before memory is taken."""

from __future__ import annotations

import io
import lzma
import math
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from trainer.errors import FileError
from trainer.lazy import np
from trainer.sources.pickled import object_rows

if TYPE_CHECKING:
    import numpy

MOST_BYTES = 8 << 30
MOST_HEADER = 1 << 17
PIECE = 1 << 20
KINDS = "biufUS"
"Kinds of numpy's types that are read: truth values, numbers and texts."


def read_npz(path: Path, *, objects: bool = False, stream: IO[bytes] | None = None) -> dict[str, Any]:
    """The arrays of an .npz file by name; `stream` holds the bytes when they do not come from the file.

    `objects` admits arrays of lists of numbers (as the published imdb and reuters files hold them), read by an
    unpickler that knows nothing else.

    Raises:
        FileError: no zip file, damaged, larger than it says, or holding objects.
    """
    try:
        with zipfile.ZipFile(stream or path) as archive:
            members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
            if not members:
                raise FileError(f"{path}: expected arrays (.npy) in the archive, found none")
            if sum(m.file_size for m in members) > MOST_BYTES:
                raise FileError(f"{path}: the arrays would take more than {MOST_BYTES >> 30} GiB")
            return {m.filename[:-4]: _member(archive, m, path, objects) for m in members}
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError, ValueError) as error:
        raise FileError(f"{path}: expected an .npz file, which this is not or no longer: {error}") from None


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, objects: bool) -> Any:
    # Read into what becomes the array itself, so that there is no moment with two of it.
    # Its memory is not taken before it is filled, so that a size that lies takes none.
    data, filled = np.empty(member.file_size, "uint8").data, 0
    with archive.open(member) as stream:
        while piece := stream.read(min(PIECE, member.file_size + 1 - filled)):
            filled += len(piece)
            if filled <= member.file_size:
                data[filled - len(piece) : filled] = piece
    if filled != member.file_size:
        raise FileError(f"{path}: {member.filename} is not as long as it says")
    return read_npy(data, f"{path}: {member.filename}", objects=objects)


def read_npy(data: bytes | memoryview, name: str, *, objects: bool = False) -> Any:
    """The array in the bytes of an .npy file; memory that may be written is kept as the array's own.

    Raises:
        FileError: no such file, shapes that lie, or objects.
    """
    stream = io.BytesIO(data[:MOST_HEADER])
    shape, fortran, dtype = _header(stream, name)
    if dtype.hasobject:
        if not objects:
            raise FileError(f"{name}: expected numbers, found Python objects, which are never loaded")
        start = stream.tell()
        return object_rows(data[start:], shape, name)
    if dtype.kind not in KINDS or not 0 < dtype.itemsize <= (8 if dtype.kind in "biuf" else len(data)):
        raise FileError(f"{name}: expected numbers of at most 64 bits or texts, found the type {dtype}")
    need = math.prod(shape) * dtype.itemsize
    if need != len(data) - stream.tell():
        raise FileError(f"{name}: the shape {shape} needs {need} bytes, found {len(data) - stream.tell()}")
    return _array(memoryview(data)[stream.tell() :], shape, fortran, dtype, name)


def _array(data: memoryview, shape: tuple[int, ...], fortran: bool, dtype: numpy.dtype[Any], name: str) -> Any:
    try:
        array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    except (ValueError, OverflowError):
        raise FileError(f"{name}: the shape {shape} can't be") from None
    if dtype.kind == "U" and (np.frombuffer(data, dtype.str[0] + "u4") > 0x10FFFF).any():
        raise FileError(f"{name}: the texts hold what is no character")
    # torch reads this machine's byte order only, and may write.
    if array.flags.writeable and array.flags.c_contiguous and array.flags.aligned and dtype.isnative:
        return array
    return np.array(array, dtype.newbyteorder("="), order="C")


_HEADER_ERRORS = (
    ValueError, KeyError, EOFError, TypeError, SyntaxError, OverflowError, RecursionError, MemoryError, AttributeError,
    IndexError,
)  # fmt: skip


def _header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, numpy.dtype[Any]]:
    from numpy.lib import format as npy

    try:
        version = npy.read_magic(stream)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        with warnings.catch_warnings():
            # numpy warns of headers that Python 2 wrote, and of odd ones.
            warnings.simplefilter("ignore")
            shape, fortran, dtype = read(stream)
    except (*_HEADER_ERRORS, tokenize.TokenError) as error:
        raise FileError(f"{name}: expected an .npy array, found a header that can't be read: {error}") from None
    if any(n < 0 for n in shape):
        raise FileError(f"{name}: the shape {shape} can't be")
    return shape, fortran, dtype
