"""What a run's bits depend on beside its recipe and data."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch

import trainer


def fingerprint(device: torch.device) -> dict[str, str]:
    """Versions, processor and device: where all of it is equal, so are the bits."""
    found = {
        "trainer": trainer.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "device": str(device),
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """`torch 2.12 -> 2.13` for everything that is no longer the same."""
    return [f"{k} {before.get(k)} -> {now.get(k)}" for k in sorted({*before, *now}) if before.get(k) != now.get(k)]
