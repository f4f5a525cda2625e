"""Numbers replaced in a recipe's text: only they change."""

from __future__ import annotations

import pytest

from trainer.errors import RecipeError
from trainer.recipe.document import Document
from trainer.recipe.rewriting import rewritten

TEXT = """# ä: 0.9
expect:
  test.accuracy: {min: 0.9, max: 1, mean: {min: .95}}   # 0.9 too
  "test.loss":
    value: 2.5e-1 # note
    abs: 0.1
"""


def test_only_the_numbers_change() -> None:
    document = Document.parse(TEXT)
    values = {
        ("expect", "test.accuracy", "min"): 0.8125,
        ("expect", "test.accuracy", "mean", "min"): 0.93,
        ("expect", "test.loss", "value"): 12.0,
    }
    expected = TEXT.replace("{min: 0.9,", "{min: 0.8125,").replace(".95", "0.93").replace("2.5e-1", "12")
    assert rewritten(document, values) == expected
    assert rewritten(document, {}) == TEXT


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("expect: {a: &a {min: 0.5}, b: *a}", []),
        ("expect: {a: {min: 0.5}, b: {max: 1}}", ["expect.b.min=0.3"]),
    ],
)
def test_numbers_that_stand_elsewhere_are_refused(text: str, flags: list[str]) -> None:
    document = Document.parse(text).with_sets(flags)
    with pytest.raises(RecipeError, match="do not stand in this file"):
        rewritten(document, {("expect", "b", "min"): 0.1})
