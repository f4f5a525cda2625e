"""The command line, called from tests."""

from __future__ import annotations

from collections.abc import Callable

Call = Callable[..., tuple[int, str, str]]
"From the words behind `trainer` to (exit code, output, errors)."
