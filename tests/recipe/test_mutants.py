"""Damaged recipes: whatever is done to a shipped one, it is sound or refused with a place, and at once."""

from __future__ import annotations

import random
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.errors import TrainerError
from trainer.recipe.load import load_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
WORDS = r"""
-1 0 1 1e999 1e-400 .nan -.inf 1e308 0x1F 0o14 1_000 1/0 1/255 3.5 -0 null ~ true no 0-7 7-0 é 日本 😀 [bold] \
[] {} [[]] [1,x] '' "" '1' "x\ty" &a *a !!int !x << | > # --- ... % @ ` , { } [ ] " ' name inputs targets columns kfold
Dense Flatten Reshape LSTM Embedding mse adam mnist imdb digits val_loss test.accuracy extends plugins
"""
ODD = [
    *WORDS.split(),
    *["? ", "- ", ": ", "{a: {b: [1]}}", "&a [*a]", "\t", "\r", "\u2028", "\u202e", "\0", "\x1b[1m", "\ufeff"],
    *["a" * 300, "k" * 70, "9" * 30, "9" * 101, "9" * 20],
]


def tokens(text: str) -> list[str]:
    return re.findall(r"\n[ ]*|[ ]+|[\w./-]+|.", text)


def delete(parts: list[str], rng: random.Random) -> None:
    at = rng.randrange(len(parts))
    del parts[at : at + rng.choice([1, 1, 1, 2, 5, 20])]


def double(parts: list[str], rng: random.Random) -> None:
    at = rng.randrange(len(parts))
    parts[at:at] = parts[at : at + rng.choice([1, 2, 5, 20])]


def swap(parts: list[str], rng: random.Random) -> None:
    a, b = rng.randrange(len(parts)), rng.randrange(len(parts))
    parts[a], parts[b] = parts[b], parts[a]


def replace(parts: list[str], rng: random.Random) -> None:
    parts[rng.randrange(len(parts))] = rng.choice(ODD)


def insert(parts: list[str], rng: random.Random) -> None:
    parts.insert(rng.randrange(len(parts)), rng.choice(ODD))


def retype(parts: list[str], rng: random.Random) -> None:
    """Another value behind a colon."""
    places = [n for n, p in enumerate(parts) if p == ":" and n + 2 < len(parts)]
    if places:
        parts[rng.choice(places) + 2] = rng.choice(ODD)


def misspell(parts: list[str], rng: random.Random) -> None:
    places = [n for n, p in enumerate(parts) if len(p) > 2 and p[0].isalpha()]
    if places:
        at = rng.choice(places)
        word, cut = parts[at], rng.randrange(len(parts[at]))
        parts[at] = word[:cut] + rng.choice(["", "x", word[cut] * 2, word[cut].swapcase()]) + word[cut + 1 :]


def indent(parts: list[str], rng: random.Random) -> None:
    places = [n for n, p in enumerate(parts) if p.startswith("\n")]
    if places:
        parts[rng.choice(places)] = "\n" + " " * rng.randrange(8)


def cut(parts: list[str], rng: random.Random) -> None:
    del parts[rng.randrange(len(parts)) :]


CHANGES: list[Callable[[list[str], random.Random], None]] = [
    *[delete, double, swap, replace, insert, retype, retype, misspell, misspell, indent],
    cut,
]


def mutant(seed: int) -> str:
    """A recipe with one to four changes, the same for the same seed."""
    rng = random.Random(seed)
    parts = tokens(rng.choice(RECIPES).read_text(encoding="utf-8"))
    for _ in range(rng.choice([1, 1, 1, 2, 3, 4])):
        if parts:
            rng.choice([*CHANGES] if rng.random() < 0.95 else [cut])(parts, rng)
    return "".join(parts)


def outcome(file: Path) -> str:
    """`sound`, or `refused` when every problem has a place; any other exception passes."""
    try:
        load_recipe(file)
    except TrainerError as error:
        problems, text = error.problems, str(error)
    else:
        return "sound"
    assert problems
    assert [str(p) for p in problems if p.place is None] == [], "these problems have no place"
    text.encode("utf-8")
    return "refused"


def held(folder: Path, seeds: range) -> Counter[str]:
    """How the mutants of these seeds fare."""
    for recipe in RECIPES:
        shutil.copy(recipe, folder)
    file, found = folder / "mutant.yaml", Counter[str]()
    for seed in seeds:
        text = mutant(seed)
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            found[outcome(file)] += 1
        except Exception as error:
            raise AssertionError(f"mutant {seed} fails with {type(error).__name__}: {error}\n{text}") from error
    return found


def test_three_hundred_mutants(tmp_path: Path) -> None:
    found = held(tmp_path, range(300))
    assert found.total() == 300
    assert found["refused"] > 150
    assert found["sound"] > 15, "the changes are too rough to reach what lies behind the reader"


@pytest.mark.long
def test_five_thousand_mutants(tmp_path: Path) -> None:
    assert held(tmp_path, range(1000, 6000)).total() == 5000
