"""What the sets have in common that are drawn from a seed instead of read."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from trainer.lazy import np

if TYPE_CHECKING:
    import numpy

MOST_BYTES = 2 << 30
"Of a drawn set."


def digest_of(*arrays: numpy.ndarray) -> str:
    """sha256 of what was drawn: should a later version of numpy draw otherwise, a run says so."""
    found = hashlib.sha256()
    for values in arrays:
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()
