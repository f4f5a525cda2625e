"""The error of a layer that can't take what reaches it."""

from __future__ import annotations

from trainer.errors import Path


class Misfit(ValueError):
    """What is wrong with an input: what to try, and, for a model inside a model, in what line of it."""

    def __init__(self, message: str, hint: str = "", path: Path = ()):
        super().__init__(message)
        self.hint, self.path = hint, path
