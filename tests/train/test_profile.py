"""A profile: its parts make up the whole, training is none the wiser, and advice follows from figures."""

from __future__ import annotations

import inspect
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.train.recipes import DIGITS, directory_of, loaded, trained
from trainer.train import direct, loop, profiled
from trainer.train.advice import CHANGES, FEW_STEPS, QUIETER, advice
from trainer.train.job import Options, fit
from trainer.train.profile import PARTS, Facts, Figures, Profile

CALLS = "callbacks=[{ModelCheckpoint: {filepath: best.h5}}, TerminateOnNaN]"
DRAWN = "dataset.inputs={image: {preprocess: [{Reshape: {target_shape: [8, 8, 1]}}, {RandomTranslation: \
{height_factor: 0.1, width_factor: 0.1}}]}}"
FLAT = "model.layers=[Flatten, {Dense: {units: 10, activation: softmax}}]"
FOLDS = ("fit.validation_split=0", "fit.kfold={folds: 3}")
PHASES = "phases=[{name: head, frozen: [dense], fit: {epochs: 2}}, {name: all, fit: {epochs: 2}}]"
NETWORK = "model.layers=[{Dense: {units: 8, name: dense}}, {Dense: {units: 10, activation: softmax}}]"


def profile(tmp_path: Path, *sets: str, **options: Any) -> dict[str, Any]:
    return trained(tmp_path, DIGITS, *sets, profile=True, **options).profile


@pytest.mark.parametrize(
    "sets",
    [(), (CALLS,), (DRAWN, FLAT), FOLDS, (NETWORK, PHASES), ("compile.optimizer={adam: {loss_scale_factor: 8}}",)],
    ids=["plain", "callbacks", "drawn", "folds", "phases", "scaled"],
)
@pytest.mark.parametrize("engine", ["auto", "plain"])
def test_training_is_the_same_under_a_profile(
    tmp_path: Path, sets: tuple[str, ...], engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Under a profile, folds go one after the other.
    monkeypatch.setenv("TRAINER_WITHOUT", "together")
    without = trained(tmp_path, DIGITS, *sets, engine=engine)
    under = trained(tmp_path, DIGITS, *sets, engine=engine, profile=True)
    assert under.profile["steps"] > 0
    assert not without.profile
    assert not (without.directory / "profile.json").exists()
    assert under.history == without.history
    assert under.folds == without.folds
    assert under.figures == without.figures


@pytest.mark.parametrize("engine", ["auto", "plain"])
def test_parts_make_up_the_whole(tmp_path: Path, engine: str) -> None:
    outcome = trained(tmp_path, DIGITS, CALLS, engine=engine, profile=True)
    found = outcome.profile
    assert json.loads((outcome.directory / "profile.json").read_text()) == found
    assert list(found["parts"]) == list(PARTS)
    assert sum(p["seconds"] for p in found["parts"].values()) == pytest.approx(found["seconds"], abs=1e-6)
    assert sum(p["share"] for p in found["parts"].values()) == pytest.approx(1, abs=1e-6)
    assert 0 < found["seconds"] < found["run_seconds"]
    never = {"plain": {"building", "compiled"}, "auto": {"compiled"}}[engine]
    assert {part for part, spent in found["parts"].items() if not spent["seconds"]} == never
    for way in ("forward", "backward"):
        own = sum(ways[way]["seconds"] for ways in found["layers"].values())
        assert own == pytest.approx(found["parts"][way]["seconds"], abs=1e-6)
    assert set(found["layers"]) == {"dense", "dropout", "dense_1"}
    assert all(ways[way]["seconds"] > 0 for ways in found["layers"].values() for way in ("forward", "backward"))
    assert set(found["callbacks"]) == {"ModelCheckpoint", "TerminateOnNaN"}


def test_steps_and_rows_are_counted(tmp_path: Path) -> None:
    # 450 rows in batches of 32 over 4 epochs.
    found = profile(tmp_path)
    assert (found["steps"], found["rows"], found["autograd_steps"]) == (60, 1800, 0)
    assert found["steps_a_second"] == pytest.approx(60 / found["seconds"], rel=1e-3)
    plain = profile(tmp_path, engine="plain")
    assert (plain["steps"], plain["autograd_steps"], plain["autograd_since"]) == (60, 60, "it was asked for")
    # Two thirds of 600 rows three times, and all of them at last.
    assert profile(tmp_path, *FOLDS)["rows"] == 4 * (3 * 400 + 600)


def test_batches_that_only_autograd_can_take_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "MOST_PROGRAMS", 1)
    # The last batch of an epoch has 2 rows.
    under, without = trained(tmp_path, profile=True), trained(tmp_path)
    assert (under.profile["steps"], under.profile["autograd_steps"]) == (60, 4)
    assert under.history == without.history


def test_a_profile_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.train import profiled

    seen: list[loop.Training] = []
    begin = profiled.Profiled.__post_init__
    monkeypatch.setattr(profiled.Profiled, "__post_init__", lambda self: (begin(self), seen.append(self))[0])
    profile(tmp_path)
    (training,) = seen
    for owner, names in ((training.updater, ("apply", "apply_written")), (training.network, ("run",))):
        assert not set(names) & set(vars(owner))
    assert not {"reset", "logs"} & set(vars(training.scores))


def test_a_run_that_goes_on_is_profiled_from_there(tmp_path: Path) -> None:
    from trainer.train.job import resume

    outcome = trained(tmp_path)
    done = resume(directory_of(outcome), Options(runs=tmp_path, device="cpu", epochs=5, profile=True))
    assert done.profile["steps"] == 15


def test_time_is_that_of_the_part_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("trainer.train.profile.perf_counter", lambda: now[0])
    clock = Profile()

    def passes(seconds: float) -> None:
        now[0] += seconds

    def callback() -> None:
        passes(5)
        clock.to(clock.of("metrics"))
        clock.during(clock.of("checkpoint"), passes, 6)

    passes(100)
    clock.to(clock.of("data"))
    with clock.running():
        passes(1)
        clock.to(clock.of("forward", "dense"))
        passes(2)
        clock.claim(clock.of("building"))
        clock.to(clock.of("backward", "dense"))
        passes(3)
        clock.during(clock.of("callbacks", "Own"), callback)
        passes(4)
    passes(100)
    found = clock.figures()
    expected = {"loop": 1, "building": 2, "backward": 7, "callbacks": 11}
    assert found.parts == {part: expected.get(part, 0) for part in PARTS}
    assert (found.layers, found.callbacks) == ({"dense": {"forward": 0, "backward": 7}}, {"Own": 11})


def test_the_clocks_own_time_is_a_part() -> None:
    clock = Profile()
    with clock.running():
        for _ in range(2000):
            clock.to(clock.of("forward", "a"))
            clock.to(clock.of("backward", "a"))
    found = clock.figures()
    assert 0 < found.parts["measuring"] <= found.seconds
    assert all(seconds >= 0 for seconds in found.parts.values())


def figures(facts: Facts, *, steps: int = 1000, **parts: float) -> Figures:
    """Figures of a training whose parts, 0.0001 s each beside those given, are in seconds."""
    known = {**dict.fromkeys(PARTS, 1e-4), **parts}
    layers = {"dense": {way: known[way] for way in ("forward", "backward")}, "small": {"forward": 1e-4}}
    return Figures(steps, 0, steps * 10, known, layers, {"ModelCheckpoint": parts.get("callbacks", 0.0)}, facts, 10)


QUICK = {"forward": 0.1, "loss": 0.1, "backward": 0.1}
LARGE = Facts(batch_size=512)
TILED = replace(LARGE, tiled=("dense", "small"))
ADVICE = [
    (figures(Facts(512, "it was asked for"), **QUICK), "leave out --engine plain"),
    (figures(Facts(512, "the loss is scaled"), **QUICK), "leave out LossScaleOptimizer"),
    (figures(Facts(512, "the loss is scaled", "mixed_float16"), **QUICK), ""),
    (figures(Facts(512, "it was asked for"), forward=10), ""),
    (figures(Facts(512, "it was asked for", device="cuda"), **QUICK), ""),
    (figures(Facts(512, "a reason that can't be helped"), **QUICK), ""),
    (figures(Facts(10), data=0.2, update=0.2, forward=0.1), "fit.batch_size: 40 trains more rows"),
    (figures(Facts(10), data=0.1, update=0.1, forward=0.5), ""),
    (figures(Facts(10, compiled=True), data=0.2, update=0.2, forward=0.1), ""),
    (figures(LARGE, data=0.2, update=0.2, forward=0.1), ""),
    (figures(TILED, forward=0.6, backward=0.4), "precision: bfloat16 lets this processor multiply by tiles (dense)"),
    (figures(TILED, forward=0.3, backward=0.1), ""),
    (figures(TILED, steps=100_000, forward=0.6, backward=0.4), ""),
    (figures(replace(TILED, dtype="mixed_bfloat16"), forward=0.6, backward=0.4), ""),
    (figures(replace(TILED, device="cuda"), forward=0.6, backward=0.4), ""),
    (figures(replace(TILED, tiled=("small",)), forward=0.6, backward=0.4), ""),
    (figures(Facts(10, drawn=("image",)), data=0.2, forward=0.4), "preprocessing of image draws"),
    (figures(Facts(512, watches=("TerminateOnNaN",)), metrics=0.5, forward=0.4), "TerminateOnNaN: without it"),
    (figures(LARGE, metrics=0.5, forward=0.4), ""),
    (figures(Facts(512, saves_all=True), callbacks=0.3, forward=0.7), "save_best_only"),
    (figures(LARGE, callbacks=0.3, forward=0.7), ""),
    (figures(replace(LARGE, validation_rows=1000), validation=0.05, forward=0.1), "validation_batch_size: 1024"),
    (figures(replace(LARGE, validation_rows=1000), validation=5, forward=9), "validation_freq: 5"),
    (figures(replace(LARGE, validation_rows=1000, validation_freq=2), validation=5, forward=9), ""),
    (figures(replace(LARGE, validation_rows=1000), validation=1, forward=9), ""),
]


@pytest.mark.parametrize(("found", "words"), ADVICE)
def test_advice_follows_from_figures(found: Figures, words: str) -> None:
    said = advice(found)
    assert len(said) == bool(words)
    assert not words or words in said[0]
    assert advice(replace(found, steps=FEW_STEPS - 1)) == []


def test_advice_begins_with_its_figure() -> None:
    (said,) = advice(figures(Facts(10), data=0.2, update=0.2, forward=0.6))
    assert said.startswith("data, update, metrics and loop take 40% of the time: ")
    (said,) = advice(figures(replace(LARGE, validation_rows=9), validation=3, forward=7))
    assert said.startswith("validation takes 30% of the time: ")


def test_advice_knows_the_reasons_of_the_engine_and_the_callbacks() -> None:
    said = inspect.getsource(direct) + inspect.getsource(loop)
    assert {reason for reason in CHANGES if f'"{reason}"' not in said} == set()
    from trainer.callbacks.base import Callback

    assert set(QUIETER) <= {type(Callback.parse({name: {}})).__name__ for name in QUIETER}


@pytest.mark.parametrize(
    ("sets", "words", "tiled"),
    [
        (("callbacks=[TerminateOnNaN]",), ("TerminateOnNaN",), ("dense", "dense_1")),
        (("callbacks=[{ModelCheckpoint: {filepath: best.h5}}]",), (), ()),
    ],
)
def test_facts_are_those_of_the_recipe(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sets: tuple[str, ...],
    words: tuple[str, ...],
    tiled: tuple[str, ...],
) -> None:
    from trainer.train import work

    monkeypatch.setattr(profiled, "has_tiles", lambda: bool(tiled))
    recipe = loaded(DIGITS, *sets)
    job: list[work.Job] = []
    begin = work.Job.__init__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work.Job, "__init__", lambda self, *a, **k: (begin(self, *a, **k), job.append(self))[0])
        fit(recipe, Options(runs=tmp_path, device="cpu", profile=True), DIGITS.encode())
    assert job[0].profile is not None
    facts = job[0].profile.facts
    assert (facts.batch_size, facts.watches, facts.saves_all) == (32, words, not words)
    assert (facts.validation_rows, facts.validation_batch_size, facts.validation_freq) == (150, 4096, 1)
    assert facts.tiled == tiled
    assert math.isclose(job[0].profile.figures().validations, 4)
