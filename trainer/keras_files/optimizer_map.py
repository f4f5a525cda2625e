"""The expressions of a MultiOptimizer, as they fit our paths of weights.

Keras fits them to the path that a weight had when the model was compiled. The same layer's kernel is
`net/block/dense/kernel` in a Sequential `net` that was not saved yet, `dense/kernel` in a functional model, and after
loading in both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

KIND = "MultiOptimizer"
MOST_STEPS = 2e7
"Of matching, at worst: an expression of a stranger's file must not keep anybody waiting."


def patterns_of(optimizer: Any) -> dict[str, Any]:
    """Expression to optimizer, of an optimizer as a recipe writes it; the mapping itself, to be changed in place."""
    scaled = optimizer.get("LossScaleOptimizer") if isinstance(optimizer, dict) else None
    several = scaled.get("inner_optimizer") if isinstance(scaled, dict) else optimizer
    options = several.get(KIND) if isinstance(several, dict) else None
    return options["optimizer_map"].get("optimizer_map", {}) if isinstance(options, dict) else {}


def too_slow(patterns: Mapping[str, Any], paths: Sequence[str], model: str) -> str | None:
    """An expression that might be matched against these paths for longer than anyone waits; None when all are quick."""
    length, count = max(map(len, paths), default=0) + len(model) + 1, 3 * len(paths)
    steps = {pattern: _steps(_without_our_own(pattern, model), length) * count for pattern in patterns}
    return max(steps, key=steps.__getitem__) if sum(steps.values()) > MOST_STEPS else None


def _steps(pattern: str, length: int) -> float:
    """How often matching may turn back at most: a repeated group as often as it likes, others by their number."""
    bare = re.sub(r"\\.|\[\^?\]?[^\]]*\]", "x", pattern, flags=re.DOTALL)
    if re.search(r"\)[*+{]", bare):
        return math.inf
    depth = choices = 0
    for sign in bare:
        depth += (sign == "(") - (sign == ")")
        choices += sign == "?" or (sign == "|" and depth > 0)
    repeats = sum(map(bare.count, "*+{"))
    return math.inf if repeats + choices > 60 else float(length) ** repeats * 2.0**choices


def _without_our_own(pattern: str, model: str) -> str:
    """An expression without what an export puts before it, so that it fits paths with the model's name as well."""
    ours = re.fullmatch(rf"\(\?:{re.escape(re.escape(model))}/\)\?\(\?:(.*)\)", pattern, re.DOTALL)
    return ours[1] if ours else pattern


def fitted(
    patterns: Mapping[str, Any], paths: Sequence[str], model: str, nested: Collection[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """(the expressions for our paths, those that fit no weight).

    `nested` are the names of the models inside, as our paths begin with them.
    """
    wanted: dict[str, list[str]] = {pattern: [] for pattern in patterns}
    for path in paths:
        pattern = _fits(patterns, path, model, nested)
        if pattern is not None:
            wanted[pattern].append(path)
    made = {_rewritten(p, of, paths, model, nested): patterns[p] for p, of in wanted.items() if of}
    return made, [pattern for pattern, of in wanted.items() if not of]


def _called(path: str, model: str, nested: Collection[str]) -> Iterator[str]:
    """What Keras may have called a weight, the longest first."""
    yield f"{model}/{path}"
    yield path
    parts = path.split("/")
    for count in range(1, len(parts)):
        if "/".join(parts[:count]) in nested:
            yield "/".join(parts[count:])


def _fits(patterns: Mapping[str, Any], path: str, model: str, nested: Collection[str]) -> str | None:
    """The expression that fits the first of a weight's names."""
    for name in _called(path, model, nested):
        if name in patterns:
            return name
        for pattern in patterns:
            own = _without_our_own(pattern, model)
            # What an export wrote is meant for our path alone.
            if (own is pattern or name == path) and re.fullmatch(own, name):
                return pattern
    return None


def _rewritten(pattern: str, wanted: list[str], paths: Sequence[str], model: str, nested: Collection[str]) -> str:
    """The shortest way to say which paths: without the model's name, below a model inside, or one by one."""
    tried = [
        _without_our_own(pattern, model),
        pattern,
        *(pattern.removeprefix(f"{name}/") for name in (model, re.escape(model))),
    ]
    tried += [f"{name}/{pattern}" for name in nested]
    for other in tried:
        try:
            if [path for path in paths if path == other or re.fullmatch(other, path)] == wanted:
                return other
        except re.error:  # half of an expression may be none
            continue
    return "|".join(map(re.escape, wanted))
