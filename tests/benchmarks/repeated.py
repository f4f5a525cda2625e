"""A call, timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def milliseconds(call: Callable[[], Any], times: int = 3) -> float:
    """The median of some calls, after one that counts for nothing."""
    seconds = []
    for _ in range(times + 1):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return 1e3 * statistics.median(seconds[1:])
