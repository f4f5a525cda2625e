"""Counts the configurations that parity tests hold against Keras, class by class.

A test says `held(layer, shape)` where it makes Keras's twin; the harness does so for all that goes through it. What a
test said counts once it has passed. Counts travel as properties of test reports, so that workers of pytest-xdist need
nothing more. After a run of the whole directory the suite fails when something in a catalogue was never held.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainer.declare import Declared

KINDS = ["layer", "loss", "metric", "optimizer", "schedule", "initializer", "regularizer", "constraint", "activation"]
"""What the census asks for; sources and callbacks are held by what they do, not by numbers."""
HERE, PROPERTY, DEFAULT_MARK = Path(__file__).parent, "held against Keras", "not long"

_said: list[str] = []
"""By the test that runs now."""
_counted: dict[tuple[str, str], set[str]] = {}
"""Configurations by (kind, class)."""


def held(part: Declared, *more: Any) -> None:
    """Count a configuration; `more` tells apart what its options don't, such as the shape of the input."""
    known = hashlib.blake2b(repr((part.spec(), more)).encode(), digest_size=6).hexdigest()
    _said.append(f"{part.kind} {type(part).__name__} {known}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Keeps what the test says."""
    _said.clear()
    try:
        return (yield)
    finally:
        item.user_properties += [(PROPERTY, said) for said in sorted(set(_said))]
        _said.clear()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Counts it, in the process that prints, if the test passed."""
    if report.when == "call" and report.passed:
        count(report.user_properties, _counted)


def count(properties: list[tuple[str, object]], counted: dict[tuple[str, str], set[str]]) -> None:
    """Add what a test held."""
    for name, said in properties:
        if name == PROPERTY:
            kind, final, known = str(said).split()
            counted.setdefault((kind, final), set()).add(known)


def asked() -> set[tuple[str, str]]:
    """(kind, class) of everything that our catalogues share with Keras."""
    from trainer.recipe.json_schema import KINDS as roots

    found = set()
    for root in roots:
        if root.kind in KINDS:
            root.spellings()
            # Tests of plugins leave classes of their own in the catalogues.
            ours = (final for final in root.catalogue.values() if final.__module__.startswith("trainer."))
            found |= {(root.kind, final.__name__) for final in ours if final.keras}
    return found


def whole(config: pytest.Config) -> bool:
    """Whether the run is to hold all tests of this directory."""
    some = ("keyword", "deselect", "ignore", "ignore_glob", "collectonly", "lf", "stepwise", "setuponly", "setupplan")
    if any(config.getoption(name, None) for name in some) or config.getoption("markexpr") not in ("", DEFAULT_MARK):
        return False
    paths = [(config.invocation_params.dir / arg).resolve() for arg in config.args]
    return any(HERE.is_relative_to(path) for path in paths)


def missing(config: pytest.Config, status: int) -> list[str]:
    """What was never held, after a whole run in which all else passed."""
    if status != pytest.ExitCode.OK or not whole(config):
        return []
    return [" ".join(entry) for entry in sorted(asked() - set(_counted))]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A catalogue entry that nothing held fails the run."""
    worker = hasattr(session.config, "workerinput")
    if not worker and missing(session.config, exitstatus):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    """Prints the counts of the kinds that were held, and what is missing."""
    if not _counted:
        return
    terminalreporter.section("configurations held against Keras")
    for kind in KINDS:
        found = {name: len(known) for (of, name), known in sorted(_counted.items()) if of == kind}
        if found:
            line = f"{kind}: {sum(found.values())} of {len(found)} classes"
            terminalreporter.write_line(f"{line}: " + ", ".join(f"{name} {n}" for name, n in found.items()))
    for entry in missing(config, exitstatus):
        terminalreporter.write_line(f"FAILED: nothing held the {entry} against Keras", red=True)
