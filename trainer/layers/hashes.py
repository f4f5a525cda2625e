"""The two hashes of strings behind Keras's hashing layers, over many strings at once.

FarmHash64's fingerprint (https://github.com/google/farmhash, `farmhashna`) and SipHash-2-4 (Aumasson and Bernstein,
2012). Strings of one length are hashed together, since the way depends on the length alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trainer.lazy import np

if TYPE_CHECKING:
    from numpy import ndarray

MASK = 2**64 - 1
K0, K1, K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F
CROSS_KEY = 0xDECAFCAFFE
"Where TensorFlow begins a crossing."


def buckets(texts: Sequence[bytes], count: int, salt: tuple[int, int] | None = None) -> ndarray:
    """The bucket, from 0 to count - 1, of each string: SipHash with a salt, FarmHash without."""
    hashed = fingerprints(texts) if salt is None else _by_length(texts, lambda rows: _sip(rows, salt))
    return (hashed % np.uint64(count)).astype("int64")


def fingerprints(texts: Sequence[bytes]) -> ndarray:
    """FarmHash64's fingerprint of each string, as uint64."""
    return _by_length(texts, _farm)


def crossed(columns: Sequence[ndarray], count: int) -> ndarray:
    """The bucket of each row of several columns of uint64 (fingerprints or integers), as `tf.sparse.cross_hashed`."""
    state = np.full(len(columns[0]), CROSS_KEY, "uint64")
    factor = _u(0xC6A4A7935BD1E995)
    for column in columns:
        mixed = (state ^ factor ^ (_shift_mix(column * factor) * factor)) * factor
        state = _shift_mix(_shift_mix(mixed) * factor)
    return (state % np.uint64(count)).astype("int64")


def _by_length(texts: Sequence[bytes], way: Callable[[ndarray], ndarray]) -> ndarray:
    """Apply a hash of rows of bytes (strings, length) to strings of every length."""
    out = np.zeros(len(texts), "uint64")
    places: dict[int, list[int]] = {}
    for place, text in enumerate(texts):
        places.setdefault(len(text), []).append(place)
    for length, same in places.items():
        rows = np.frombuffer(b"".join([texts[p] for p in same]), "uint8").reshape(len(same), length)
        out[same] = way(rows)
    return out


def _u(value: int) -> Any:
    return np.uint64(value & MASK)


def _fetch(rows: ndarray, at: int, size: int = 8) -> ndarray:
    """The little-endian number in the bytes from `at` on, for each row."""
    cut = np.ascontiguousarray(rows[:, at : at + size])
    return cut.view(f"<u{size}").reshape(len(rows)).astype("uint64")


def _rotate(value: ndarray, by: int) -> ndarray:
    """The bits turned right."""
    return (value >> _u(by)) | (value << _u(64 - by))


def _shift_mix(value: ndarray) -> ndarray:
    return value ^ (value >> _u(47))


def _pair(u: ndarray, v: ndarray, factor: Any) -> ndarray:
    """One number of two."""
    a = _shift_mix((u ^ v) * factor)
    return _shift_mix((v ^ a) * factor) * factor


def _farm(rows: ndarray) -> ndarray:
    length = rows.shape[1]
    if length > 64:
        return _farm_long(rows)
    factor = _u(K2 + 2 * length)
    if length > 32:
        return _farm_to_64(rows, factor)
    if length > 16:
        return _farm_to_32(rows, factor)[0]
    if length >= 8:
        a, b = _fetch(rows, 0) + _u(K2), _fetch(rows, length - 8)
        return _pair(_rotate(b, 37) * factor + a, (_rotate(a, 25) + b) * factor, factor)
    if length >= 4:
        return _pair(
            _u(length) + (_fetch(rows, 0, 4) << _u(3)), _fetch(rows, length - 4, 4), np.full(len(rows), factor)
        )
    if length == 0:
        return np.full(len(rows), K2, "uint64")
    first, middle, last = (rows[:, i].astype("uint64") for i in (0, length >> 1, length - 1))
    y, z = first + (middle << _u(8)), _u(length) + (last << _u(2))
    return _shift_mix((y * _u(K2)) ^ (z * _u(K0))) * _u(K2)


def _farm_to_32(rows: ndarray, factor: Any, a_factor: int = K1) -> tuple[ndarray, ndarray, ndarray]:
    """(hash, its first half before it was mixed, what the first eight bytes gave)."""
    length = rows.shape[1]
    a, b = _fetch(rows, 0) * _u(a_factor), _fetch(rows, 8)
    c, d = _fetch(rows, length - 8) * factor, _fetch(rows, length - 16) * _u(K2)
    y = _rotate(a + b, 43) + _rotate(c, 30) + d
    return _pair(y, a + _rotate(b + _u(K2), 18) + c, factor), y, a


def _farm_to_64(rows: ndarray, factor: Any) -> ndarray:
    length = rows.shape[1]
    z, y, a = _farm_to_32(rows, factor, K2)
    e, f = _fetch(rows, 16) * factor, _fetch(rows, 24)
    g, h = (y + _fetch(rows, length - 32)) * factor, (z + _fetch(rows, length - 24)) * factor
    return _pair(_rotate(e + f, 43) + _rotate(g, 30) + h, e + _rotate(f + a, 18) + g, factor)


def _weak(rows: ndarray, at: int, a: ndarray, b: ndarray) -> tuple[ndarray, ndarray]:
    """32 bytes stirred into two numbers."""
    w, x, y, z = (_fetch(rows, at + 8 * i) for i in range(4))
    a = a + w
    b = _rotate(b + a + z, 21)
    c = a
    a = a + x + y
    return a + z, b + _rotate(a, 44) + c


def _farm_long(rows: ndarray) -> ndarray:
    length = rows.shape[1]
    end = (length - 1) // 64 * 64
    rest = (length - 1) & 63
    seed, zero = np.full(len(rows), 81, "uint64"), np.zeros(len(rows), "uint64")
    y = seed * _u(K1) + _u(113)
    z = _shift_mix(y * _u(K2) + _u(113)) * _u(K2)
    state = (seed * _u(K2) + _fetch(rows, 0), y, z, (zero, zero), (zero, zero))
    for at in range(0, end, 64):
        state = _round(rows, at, state, _u(K1), 1)
    x, y, z, v, w = state
    factor = _u(K1) + ((z & _u(0xFF)) << _u(1))
    w0 = w[0] + _u(rest)
    v = (v[0] + w0, v[1])
    w = (w0 + v[0], w[1])
    x, y, z, v, w = _round(rows, end + rest - 63, (x, y, z, v, w), factor, 9)
    left = _pair(v[0], w[0], factor) + _shift_mix(y) * _u(K0) + z
    return _pair(left, _pair(v[1], w[1], factor) + x, factor)


def _round(rows: ndarray, at: int, state: Any, factor: Any, times: int) -> Any:
    """64 bytes of a long string; `times` is 9 in the last round."""
    x, y, z, v, w = state
    x = _rotate(x + y + v[0] + _fetch(rows, at + 8), 37) * factor
    y = _rotate(y + v[1] + _fetch(rows, at + 48), 42) * factor
    x = x ^ (w[1] * _u(times))
    y = y + v[0] * _u(times) + _fetch(rows, at + 40)
    z = _rotate(z + w[0], 33) * factor
    v = _weak(rows, at, v[1] * factor, x + w[0])
    w = _weak(rows, at + 32, z + w[1], y + _fetch(rows, at + 16))
    return z, y, x, v, w


def _sip(rows: ndarray, salt: tuple[int, int]) -> ndarray:
    """SipHash with two rounds a word and four at the end."""
    count, length = rows.shape
    key = [np.full(count, k & MASK, "uint64") for k in salt]
    begin = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
    v = [key[i % 2] ^ _u(b) for i, b in enumerate(begin)]
    padded = np.zeros((count, (length // 8 + 1) * 8), "uint8")
    padded[:, :length] = rows
    padded[:, -1] = length & 0xFF
    for at in range(0, padded.shape[1], 8):
        word = _fetch(padded, at)
        v[3] = v[3] ^ word
        v = _sip_round(_sip_round(v))
        v[0] = v[0] ^ word
    v[2] = v[2] ^ _u(0xFF)
    for _ in range(4):
        v = _sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def _sip_round(v: list[ndarray]) -> list[ndarray]:
    a, b, c, d = v
    a, c = a + b, c + d
    b, d = _rotate(b, 51) ^ a, _rotate(d, 48) ^ c
    a, c = _rotate(a, 32) + d, c + b
    b, d = _rotate(b, 47) ^ c, _rotate(d, 43) ^ a
    return [a, b, _rotate(c, 32), d]
