"""torch's own threads for compiled code: others beside them would take turns with them on the processors."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

from trainer.lazy import torch
from trainer.native.compiler import Uncompiled

CALLS = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")


@cache
def team() -> ctypes.Array[ctypes.c_void_p]:
    """Addresses in the OpenMP library that torch uses: run by all threads, which one this is, how many there are.

    Raises:
        Uncompiled: torch was built with another way to run threads.
    """
    library = ctypes.CDLL(torch._C.__file__)
    found: list[Any] = [getattr(library, name, None) for name in CALLS]
    if None in found:
        raise Uncompiled("torch's threads can't be reached")
    return (ctypes.c_void_p * len(CALLS))(*(ctypes.cast(call, ctypes.c_void_p) for call in found))
