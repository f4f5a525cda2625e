"""Drawn models trained by autograd, by operations in a row and with compiled code: the same history and weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.drawn_models import ACTIVATIONS, MERGING, OPTIMIZERS, RARE, Drawn
from tests.train.recipes import directory_of, loaded
from tests.train.test_direct import record, weights
from trainer.train import compiled
from trainer.train.job import Options, Outcome, fit
from trainer.train.scoring import evaluate
from trainer.train.use import OpenRun

FEW, MANY = 30, 1000


@pytest.mark.parametrize("seed", [pytest.param(n, marks=() if n < FEW else pytest.mark.long) for n in range(MANY)])
def test_engines_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    # Whatever can be compiled is, in runs as short as these too.
    monkeypatch.setattr(compiled, "FEW_STEPS", 0)
    monkeypatch.setattr(compiled, "WORTHWHILE", 0)
    text = Drawn(seed, noise=True).text
    plain = _run(tmp_path, text, "plain", "false")
    for jit in ("false", "auto"):
        ours = _run(tmp_path, text, "auto", jit)
        assert list(plain.history) == list(ours.history)
        for name, values in plain.history.items():
            np.testing.assert_allclose(ours.history[name], values, rtol=1e-4, atol=1e-6, err_msg=name)
        for one, other in zip(weights(ours), weights(plain), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-5)
        _hold_judged_later(tmp_path, ours)


def _run(folder: Path, text: str, engine: str, jit: str) -> Outcome:
    options = Options(runs=folder, device="cpu", engine=engine)
    return fit(loaded(text, f"compile.jit_compile={jit}"), options, text.encode())


def _hold_judged_later(folder: Path, outcome: Outcome) -> None:
    """The model that was written is judged as the one that was trained."""
    opened = OpenRun(directory_of(outcome), Options(runs=folder, device="cpu"))
    rows = opened.built.feed(opened.rows("test"))
    found = evaluate(opened.built.network, rows, opened.built.objective, opened.recipe.fit.batch_size)
    figures = record(outcome)["figures"]
    for name, value in found.items():
        np.testing.assert_allclose(value, figures[f"test.{name}"], rtol=1e-6, err_msg=name)


def test_the_draw_reaches_every_corner() -> None:
    drawn = [Drawn(seed, noise=True) for seed in range(MANY)]
    assert {one.kind for one in drawn} == {"rows", "pictures", "sequences", "words"}
    for word in (
        *OPTIMIZERS,
        *MERGING,
        *ACTIVATIONS,
        *RARE,
        "mask_zero",
        "Masking",
        "Bidirectional",
        "GRU",
        "trainable",
    ):
        assert sum(word in one.text for one in drawn) > 4, word
