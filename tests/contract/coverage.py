"""The table of docs/coverage.md: every public name of Keras, and whether a recipe can use it.

    python -m tests.contract.coverage > docs/coverage.md

What is there is read from the catalogues, Keras's names and arguments from Keras, and the reasons for what is not there
from left_out.yaml.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from trainer.block import describe
from trainer.declare import Declared, explained
from trainer.naming import plural
from trainer.recipe.explanation import listed
from trainer.recipe.json_schema import KINDS

DOCUMENT = Path(__file__).parents[2] / "docs" / "coverage.md"
SECTIONS = {
    "layers": "layer",
    "models": "layer",
    "losses": "loss",
    "metrics": "metric",
    "optimizers": "optimizer",
    "schedules": "schedule",
    "initializers": "initializer",
    "regularizers": "regularizer",
    "constraints": "constraint",
    "callbacks": "callback",
    "activations": "activation",
    "datasets": "source",
    "utils": "",
}
"""Sections of the table, each a module of Keras, and the kind whose names answer to it."""


EVERYWHERE = {"trainable", "name", "inputs"}
"Options of every layer; `inputs` says how it is called, which in Keras is code."


@dataclass
class Entry:
    """A class of ours and what Keras has under its name."""

    final: type[Declared]
    names: list[str] = field(default_factory=list)
    "Every spelling that recipes accept, the name of Keras's class or function first."
    arguments: list[str] = field(default_factory=list)
    "What Keras's class, function or loader takes, in order; last what all of the kind take."
    own: list[str] = field(default_factory=list)
    "Those of its own signature."
    inherited: set[str] = field(default_factory=set)
    "What Keras's class takes as keywords for those that it extends."

    def missing(self) -> list[str]:
        """Arguments that are no options."""
        return [a for a in self.arguments if a not in self.final.model_fields]

    def added(self) -> list[str]:
        """Options that are no arguments."""
        return [o for o in self.final.options() if o not in {*self.arguments, *self.inherited, *EVERYWHERE}]


@cache
def reasons() -> dict[str, dict[str, dict[str, Any]]]:
    """left_out.yaml."""
    return yaml.safe_load((Path(__file__).parent / "left_out.yaml").read_text(encoding="utf-8"))


def the_keras() -> Any:
    """Keras on torch, also outside of tests."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    return keras


def functional() -> Any:
    """The class of models that are graphs."""
    the_keras()
    return importlib.import_module("keras.src.models.functional").Functional


@cache
def keras_module(section: str) -> ModuleType:
    """Where Keras has the names of a section."""
    keras = the_keras()
    return keras.optimizers.schedules if section == "schedules" else getattr(keras, section)


def public_names(section: str) -> list[str]:
    """Keras's names, as `dir` shows them."""
    return sorted((n for n in dir(keras_module(section)) if not n.startswith("_")), key=lambda n: (n.lower(), n))


def spellings(section: str) -> dict[str, type[Declared]]:
    """What recipes accept; nothing where the section is no kind."""
    kind = next((k for k in KINDS if k.kind == SECTIONS[section]), None)
    # Tests of plugins leave classes of their own in the catalogues.
    ours = {n: c for n, c in kind.spellings().items() if c.__module__.startswith("trainer.")} if kind else {}
    # Models are layers too, of a section of their own.
    return {n: c for n, c in ours.items() if (c.keras == "keras.models") == (section == "models")}


def left_out(section: str) -> list[str]:
    """Keras's names that no recipe can use."""
    return [n for n in public_names(section) if n not in spellings(section)]


def entries(section: str) -> list[Entry]:
    """What both have, an entry for each class of ours."""
    found: dict[type[Declared], Entry] = {}
    for name in public_names(section):
        final = spellings(section).get(name)
        if final is not None:
            entry = found.setdefault(final, Entry(final))
            if name in (final.__name__, final.recipe_name()):
                entry.names = [name, *(n for n, c in spellings(section).items() if c is final and n != name)]
                _take(entry, section, getattr(keras_module(section), name))
    return sorted(found.values(), key=lambda e: e.names[0].lower())


def _take(entry: Entry, section: str, thing: Any) -> None:
    """Note the arguments of a class, of a function behind its input, or of a dataset's loader."""
    if not inspect.isclass(thing):
        entry.own = _named(thing.load_data) if section == "datasets" else _named(thing)[1:]
        entry.arguments = entry.own
        return
    # `Model(inputs, outputs)` makes another class, as Keras's page of Model says.
    initial: Any = functional().__init__ if thing is the_keras().Model else thing.__init__
    entry.own = entry.arguments = _named(initial)
    entry.inherited = {n for base in thing.__mro__ for n in _named(base.__init__)}
    keywords = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(initial).parameters.values())
    if section == "layers" and keywords:
        common = _named(keras_module(section).Layer.__init__)
        entry.arguments = [*entry.own, *(n for n in common if n not in entry.own)]


def _named(function: Any) -> list[str]:
    several = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    taken = inspect.signature(function).parameters.values()
    return [p.name for p in taken if p.kind not in several and p.name != "self"]


def reason(section: str, name: str, argument: str) -> str | None:
    """Why an argument of a class is left out, by what holds for it alone or for the section."""
    given = reasons()["arguments"].get(section, {})
    return given.get(name, {}).get(argument) or given.get("all", {}).get(argument)


def faults() -> Iterator[str]:
    """What the reasons and the catalogues say differently, in words."""
    for section in SECTIONS:
        given = reasons()["names"].get(section, {})
        absent, there = left_out(section), {e.names[0]: e for e in entries(section)}
        yield from (f"{section}.{n} is not there, and nothing says why" for n in absent if not given.get(n))
        yield from (
            f"{section}.{n} is there, or Keras has no such name: no reason is needed" for n in given if n not in absent
        )
        for name, entry in there.items():
            unsaid = [a for a in entry.missing() if not reason(section, name, a)]
            yield from (f"{section}.{name} has no {a}, and nothing says why" for a in unsaid)
        yield from _idle(section, there)


def _idle(section: str, there: dict[str, Entry]) -> Iterator[str]:
    """Reasons for arguments that need none."""
    for name, given in reasons()["arguments"].get(section, {}).items():
        meant = there.values() if name == "all" else [there[name]] if name in there else []
        missing = {a for entry in meant for a in entry.missing()}
        yield from (f"{section}.{name}: no reason is needed for {a}" for a in given if a not in missing)
    yield from (
        f"{section} has no {n} to note something of" for n in reasons()["notes"].get(section, {}) if n not in there
    )
    for name, given in reasons()["differs"].get(section, {}).items():
        meant = there.values() if name == "all" else [there[name]] if name in there else []
        options = {o for entry in meant for o in entry.final.model_fields}
        yield from (f"{section}.{name} has no {o} that could differ" for o in given if o not in options)


def document() -> str:
    """The whole table."""
    parts = [_HEAD.format(version=the_keras().__version__)]
    for section in SECTIONS:
        there, absent = entries(section), left_out(section)
        given = reasons()["names"].get(section, {})
        parts += [f"## {section}\n", f"{len(there)} done, {len(absent)} left out.\n"]
        parts += ["\n".join(common) + "\n"] if (common := list(_common(section, there))) else []
        rows = ["| Keras | state | what differs, or why it is left out |", "|---|---|---|"]
        rows += [_row(section, entry) for entry in there]
        rows += [f"| `{n}` | left out | {_sentence(given[n])} |" for n in absent]
        parts.append("\n".join(rows) + "\n")
    parts += ["## Beyond Keras\n", "\n".join(["| name | what it is |", "|---|---|", *_beyond()])]
    return "\n".join(parts)


_HEAD = """# Keras's names in recipes

Every public name of Keras {version} in these modules, and whether a recipe can use it. What is done takes Keras's
arguments, in Keras's order and with its defaults, unless the last column says otherwise. `trainer explain NAME` tells
more. This page is made, and a test holds it against Keras and the catalogues:

```sh
python -m tests.contract.coverage > docs/coverage.md
```
"""


def _common(section: str, there: list[Entry]) -> Iterator[str]:
    """A line for each reason that holds for all of a section."""
    for argument, why in reasons()["arguments"].get(section, {}).get("all", {}).items():
        without = [e.names[0] for e in there if argument in e.missing()]
        where = ", ".join(f"`{n}`" for n in without) if len(without) <= 6 else "most of them"
        everywhere = not any(argument in e.final.model_fields for e in there) and len(without) > 6
        yield f"- Without `{argument}`{'' if everywhere else f' ({where})'}: {why}."
    for option, says in reasons()["differs"].get(section, {}).get("all", {}).items():
        yield f"- `{option}` everywhere: {says}."


def _row(section: str, entry: Entry) -> str:
    """A line of the table for what is done."""
    name, lines = entry.names[0], describe(entry.final)
    own = reasons()["arguments"].get(section, {}).get(name, {})
    other = reasons()["differs"].get(section, {}).get(name, {})
    notes = [f"also {', '.join(f'`{n}`' for n in entry.names[1:])}"] if entry.names[1:] else []
    notes += [says for n, says in reasons()["notes"].get(section, {}).items() if n == name]
    notes += [f"`{option}`: {says}" for option, says in other.items()]
    notes += [f"`{o}`: only {words}" for o, words, _, _ in explained(entry.final) if words.startswith("false (")]
    notes += [f"without {', '.join(f'`{a}`' for a in together)}: {why}" for why, together in _by_reason(own).items()]
    notes += [f"beyond Keras `{o}`: {lines[o].rstrip('.')}" for o in entry.added()]
    return f"| `{name}` | done | {_sentence('; '.join(notes))} |"


def _by_reason(given: dict[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for argument, why in given.items():
        found.setdefault(why, []).append(argument)
    return found


def _beyond() -> Iterator[str]:
    """A line for each name that Keras lacks."""
    for section, kind in SECTIONS.items():
        known = {e.final.recipe_name() for e in entries(section)}
        ours = {c.recipe_name() for c in spellings(section).values()}
        yield from (
            f"| {kind} `{n}` | {_sentence(says)} |"
            for n, says in (listed(plural(kind)) if kind else [])
            if n in ours - known
        )


def _sentence(text: str) -> str:
    """With a capital letter and a full stop, safe in a table."""
    text = " ".join(text.split()).replace("|", "\\|")
    return text and text[0].upper() + text[1:] + ("" if text.endswith((".", "…")) else ".")


if __name__ == "__main__":
    print(document())
