from __future__ import annotations

import pytest

from tests.cli.calling import Call
from trainer.cli.app import run


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls `trainer`, without a data folder."""
    monkeypatch.delenv("TRAINER_DATA", raising=False)

    def called(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run(list(words))
        said = capfd.readouterr()
        return code, said.out, said.err

    return called
