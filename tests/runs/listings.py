"""What a small HDF5 file is to hold; nothing here loads HDF5."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainer.runs.image import Listing

VALUES = [
    np.arange(6, dtype="float32").reshape(2, 3),
    np.array(7, "int64"),
    np.zeros((0, 3), "float32"),
    np.array([True, False]),
    np.arange(4, dtype="float32").reshape(2, 2).T,
    np.array([1.5, np.nan], ">f8"),
]


def listed(values: Sequence[np.ndarray] = VALUES, mark: bytes = b"1" * 64, *, flipped: bool = False) -> Listing:
    """Something of everything."""
    listing = Listing()
    listing.words("", "which", "this")
    listing.group("a")
    listing.mark("a", "digest", mark)
    listing.names("a", "names", ["x", "longer"])
    for number, value in enumerate(values):
        listing.array(f"a/deep/{number}", value[::-1] if flipped and value.ndim else value)
    return listing
