"""The census: what a passing test held counts, and what nothing held fails a run of the whole directory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.parity import census
from trainer.layers.base import Layer

DENSE = Layer.parse({"Dense": {"units": 3}})


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], set[str]]:
    """Counts of this test's own."""
    found: dict[tuple[str, str], set[str]] = {}
    monkeypatch.setattr(census, "_counted", found)
    return found


def run_of(*args: str, markexpr: str = "not long", **options: Any) -> Any:
    """The configuration of a run on these paths."""
    given = {"markexpr": markexpr, **options}
    root = Path(__file__).parents[2]
    return SimpleNamespace(
        args=args, invocation_params=SimpleNamespace(dir=root), getoption=lambda name, default=None: given.get(name)
    )


def passed_through(held: list[tuple[Any, ...]], outcome: str = "passed", when: str = "call") -> None:
    """A test that says this and ends so, as the process that prints gets to know it."""
    item: Any = SimpleNamespace(user_properties=[])
    before = list(census._said)
    run = census.pytest_runtest_call(item)
    next(run)
    for part in held:
        census.held(*part)
    with pytest.raises(StopIteration):
        run.send(None)
    census._said.extend(before)
    report: Any = SimpleNamespace(when=when, passed=outcome == "passed", user_properties=item.user_properties)
    census.pytest_runtest_logreport(report)


def test_configurations_count_once(counted: dict[tuple[str, str], set[str]]) -> None:
    passed_through([(DENSE, (None, 4)), (DENSE, (None, 4)), (DENSE, (None, 5))])
    passed_through([(DENSE, (None, 5)), (Layer.parse({"Dense": {"units": 4}}), (None, 5))])
    assert {key: len(known) for key, known in counted.items()} == {("layer", "Dense"): 3}


def test_only_passed_tests_count(counted: dict[tuple[str, str], set[str]]) -> None:
    passed_through([(DENSE,)], outcome="failed")
    passed_through([(DENSE,)], when="teardown")
    assert not counted


def test_what_nothing_held_is_missing(counted: dict[tuple[str, str], set[str]]) -> None:
    asked = census.asked()
    assert {kind for kind, _ in asked} == set(census.KINDS)
    assert len(asked) > 250
    assert ("layer", "PadSequences") not in asked, "Keras has no such layer"
    counted.update({entry: {"one"} for entry in asked - {("layer", "Dense")}})
    config = run_of("tests")
    assert census.missing(config, 0) == ["layer Dense"]
    assert census.missing(config, 1) == [], "what failed has been said"
    session: Any = SimpleNamespace(config=config, exitstatus=0)
    census.pytest_sessionfinish(session, 0)
    assert session.exitstatus == pytest.ExitCode.TESTS_FAILED
    counted[("layer", "Dense")] = {"one"}
    session.exitstatus = 0
    census.pytest_sessionfinish(session, 0)
    assert session.exitstatus == 0


@pytest.mark.parametrize(
    ("config", "all_of_it"),
    [
        (run_of("tests"), True),
        (run_of("tests/parity/"), True),
        (run_of("."), True),
        (run_of("tests/cli", "tests/parity"), True),
        (run_of("tests", markexpr=""), True),
        (run_of("tests/parity/test_dense.py"), False),
        (run_of("tests/parity/test_dense.py::test_equals_keras"), False),
        (run_of("tests/cli"), False),
        (run_of("tests", keyword="Dense"), False),
        (run_of("tests", markexpr="long"), False),
        (run_of("tests", collectonly=True), False),
        (run_of("tests", lf=True), False),
        (run_of("tests", deselect=["tests/parity/test_dense.py"]), False),
    ],
)
def test_partial_runs_fail_for_nothing(config: Any, all_of_it: bool) -> None:
    assert census.whole(config) is all_of_it
