"""Other programs that compute when a command starts, and giving way to them.

torch's threads wait for each other in a loop, for five milliseconds at a time. Where another program wants the same
processors, the one that is waited for has none of them meanwhile: two trainings at once then take up to five times as
long as one after the other (tests/benchmarks/at_once.py).
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from trainer.switches import cores

LOAD = Path("/proc/loadavg")
TURNS, WAITING = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"
"What torch's OpenMP reads when it is loaded."
FEW_TURNS = "2000"
"Of that loop: some 30 microseconds (its own 300,000 take 4.7 ms). Alone on the machine, steps with pauses lose by it."


def crowded() -> bool:
    """Whether more wants to compute at this moment than there are processors; no where the system does not say."""
    with suppress(OSError, ValueError, IndexError):
        running = int(LOAD.read_text(encoding="ascii").split()[3].partition("/")[0])
        return running - 1 + cores() > (os.cpu_count() or 1)
    return False


def give_way() -> None:
    """Let torch's threads wait asleep, before it is loaded, unless the environment says how they are to wait."""
    if WAITING not in os.environ:
        os.environ.setdefault(TURNS, FEW_TURNS)
