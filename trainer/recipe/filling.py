"""Parameters of a block replaced by their values: `$filters`, and one step of computation such as `$filters * 4`."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from trainer.errors import Problem
from trainer.options import shown
from trainer.recipe.blocks import FORMULA, PARAMETER
from trainer.recipe.nodes import Node, plain
from trainer.recipe.tree import Spot

LARGEST = 10**15
_STEPS: dict[str, Callable[[Any, Any], Any]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def filled(node: Node, values: Mapping[str, Node], problems: list[Problem]) -> Node:
    """A part of a block with values in place of its parameters; formulas that mean nothing go to `problems`."""
    if not node.live:
        return node
    if isinstance(node.value, dict):
        return replace(node, value={k: filled(v, values, problems) for k, v in node.value.items()}, live=False)
    if isinstance(node.value, list):
        return replace(node, value=[filled(v, values, problems) for v in node.value], live=False)
    alone, formula = PARAMETER.fullmatch(node.value), FORMULA.fullmatch(node.value)
    if alone:
        found = values[alone[1]]
        return replace(found, spot=Spot(found.spot.value, node.spot.key))
    if formula is None:
        return node
    operands = [_operand(node, formula[i], values) for i in (1, 3)]
    wrong = next((o for o in operands if not _is_number(o.value)), None)
    try:
        if wrong is not None:
            raise ValueError(f"expected a number for {node.value}, found {shown(plain(wrong))}")
        return replace(node, value=computed(operands[0].value, formula[2], operands[1].value), live=False)
    except ValueError as error:
        problems.append(Problem(str(error), (wrong or node).path, code="block"))
    return replace(node, live=False)


def _operand(node: Node, text: str, values: Mapping[str, Node]) -> Node:
    if text.startswith("$"):
        return values[text[1:]]
    return replace(node, value=float(text) if "." in text else int(text))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def computed(a: float, sign: str, b: float) -> int | float:
    """A sum, difference, product or quotient; a quotient of integers that comes out even is an integer.

    Raises:
        ValueError: a result that is no number of sensible size.
    """
    if sign == "/" and b == 0:
        raise ValueError(f"expected a divisor other than 0, found {shown(a)} / 0")
    if not all(abs(v) <= LARGEST for v in (a, b)):
        raise ValueError(f"expected numbers up to {LARGEST:.0e} in a formula, found a larger one")
    if sign == "/":
        return a // b if isinstance(a, int) and isinstance(b, int) and a % b == 0 else a / b
    made = _STEPS[sign](a, b)
    if not (math.isfinite(made) and abs(made) <= LARGEST):
        raise ValueError(f"expected a result up to {LARGEST:.0e}, found a larger one: {shown(a)} {sign} {shown(b)}")
    return made
