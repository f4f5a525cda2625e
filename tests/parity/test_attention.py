"""Attention, AdditiveAttention, MultiHeadAttention and GroupQueryAttention against Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.parity.configs import hold_config
from tests.parity.several import hold_several, several_of
from trainer.block import problems_of
from trainer.errors import RecipeError
from trainer.layers.base import Layer
from trainer.layers.graph import chain
from trainer.layers.plan import Plan

SCORING = ["Attention", "AdditiveAttention"]
HEADS = ["MultiHeadAttention", "GroupQueryAttention"]


def rows(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.normal(size=shape).astype("float32")


def drawn_masks(random: np.random.Generator, shapes: list[tuple[int, ...]]) -> list[np.ndarray | None] | None:
    """Masks for some inputs, with a row in which nothing counts."""
    if random.random() < 0.4:
        return None
    masks: list[np.ndarray | None] = []
    for shape in shapes:
        mask = random.random(shape[:2]) < 0.7
        mask[0] = random.random() < 0.5
        masks.append(mask if random.random() < 0.6 else None)
    return masks


def drawn_scoring(name: str, seed: int) -> tuple[dict[str, Any], list[tuple[int, ...]]]:
    """(options, input shapes) of one configuration without heads."""
    random = np.random.default_rng([SCORING.index(name), seed])
    batch, features = (4,) if random.random() < 0.8 else (4, 2), int(random.integers(2, 6))
    queries, values, size = (int(n) for n in random.integers(2, 6, 3))
    options: dict[str, Any] = {
        "use_scale": bool(random.random() < 0.5),
        "dropout": float(random.choice([0.0, 0.3])),
        "use_causal_mask": bool(random.random() < 0.4),
    }
    if name == "Attention":
        options["score_mode"] = str(random.choice(["dot", "concat"]))
    if random.random() < 0.5:
        return options, [(*batch, queries, features), (*batch, values, size), (*batch, values, features)]
    return options, [(*batch, queries, features), (*batch, values, features)]


@pytest.mark.parametrize("seed", range(80))
@pytest.mark.parametrize("name", SCORING)
def test_scores_equal_keras(name: str, seed: int) -> None:
    options, shapes = drawn_scoring(name, seed)
    random = np.random.default_rng(seed)
    masks = drawn_masks(random, shapes) if len(shapes[0]) == 3 else None
    training = options["dropout"] == 0 and bool(seed % 2)
    hold_several({name: options}, [rows(random, *s) for s in shapes], masks=masks, training=training, seed=seed)


def drawn_heads(name: str, seed: int) -> tuple[dict[str, Any], list[tuple[int, ...]]]:
    """(options, input shapes) of one configuration with heads, on three axes."""
    random = np.random.default_rng([10 + HEADS.index(name), seed])
    queries, values, features, size = (int(n) for n in random.integers(2, 6, 4))
    options: dict[str, Any] = {
        "dropout": float(random.choice([0.0, 0.0, 0.3])),
        "use_bias": bool(random.random() < 0.6),
        "sliding_window": int(random.integers(1, 4)) if random.random() < 0.3 else None,
        "use_causal_mask": bool(random.random() < 0.4),
        "use_gate": bool(random.random() < 0.4),
        "activity_regularizer": {"L2": {"l2": 0.1}} if random.random() < 0.3 else None,
    }
    if name == "MultiHeadAttention":
        options |= {"num_heads": int(random.integers(1, 4)), "key_dim": int(random.integers(1, 4))}
        options["value_dim"] = int(random.integers(1, 4)) if random.random() < 0.5 else None
        options["output_shape"] = [None, 7, [2, 3]][int(random.integers(0, 3))]
        options["attention_axes"] = [None, 1, [-2]][int(random.integers(0, 3))]
    else:
        shared = int(random.integers(1, 4))
        options |= {"head_dim": int(random.integers(1, 4)), "num_query_heads": shared * int(random.integers(1, 4))}
        options["num_key_value_heads"] = shared
        size = features
    shapes = [(4, queries, features), (4, values, size)]
    return options, [*shapes, (4, values, size + 1)] if random.random() < 0.5 else shapes


@pytest.mark.parametrize("seed", range(250))
@pytest.mark.parametrize("name", HEADS)
def test_heads_equal_keras(name: str, seed: int) -> None:
    options, shapes = drawn_heads(name, seed)
    random = np.random.default_rng(seed)
    masks = drawn_masks(random, shapes)
    training = options["dropout"] == 0 and bool(seed % 2)
    xs = [rows(random, *s) for s in shapes]
    hold_several({name: options}, xs, masks=masks, training=training, apart=True, seed=seed, tolerance=2e-5)


def test_the_draws_reach_every_corner() -> None:
    for name in HEADS:
        found = [drawn_heads(name, seed) for seed in range(100)]
        seen = {(o["dropout"] > 0, o["use_causal_mask"], o["sliding_window"] is not None) for o, _ in found}
        assert len(seen) == 8
        assert len({(o["use_gate"], o["use_bias"], len(s)) for o, s in found}) == 8
    found = [drawn_scoring("Attention", seed) for seed in range(80)]
    assert len({(o["use_scale"], o["score_mode"], o["use_causal_mask"], len(s)) for o, s in found}) == 16


AXES = [
    (None, (4, 3, 2, 5)), (None, (3, 2, 3, 2, 4)), (1, (4, 3, 2, 5)), (2, (4, 3, 2, 5)), ([-2], (4, 3, 2, 5)),
    ([1, 2], (4, 3, 2, 5)), ([2, 3], (3, 2, 3, 2, 4)), ([1, 3], (3, 2, 3, 2, 4)), ([3, 1], (3, 2, 3, 2, 4)),
]  # fmt: skip


@pytest.mark.parametrize(("axes", "shape"), AXES)
@pytest.mark.parametrize("more", [{}, {"value_dim": 2, "use_gate": True, "output_shape": [3, 2]}])
def test_attention_over_other_axes(axes: Any, shape: tuple[int, ...], more: dict[str, Any]) -> None:
    random = np.random.default_rng(1)
    spec = {"MultiHeadAttention": {"num_heads": 2, "key_dim": 3, "attention_axes": axes, **more}}
    hold_several(spec, [rows(random, *shape), rows(random, *shape)], apart=True, tolerance=2e-5)


@pytest.mark.parametrize("more", [{"use_causal_mask": True}, {"sliding_window": 2}, {}])
def test_masks_over_the_first_of_several_axes(more: dict[str, Any]) -> None:
    random = np.random.default_rng(2)
    spec = {"MultiHeadAttention": {"num_heads": 2, "key_dim": 3, "attention_axes": 1, **more}}
    xs = [rows(random, 4, 5, 2, 3), rows(random, 4, 5, 2, 3)]
    hold_several(spec, xs, masks=[random.random((4, 5)) < 0.7, random.random((4, 5)) < 0.7], apart=True, tolerance=2e-5)


@pytest.mark.parametrize("spec", [
    {"MultiHeadAttention": {"num_heads": 3, "key_dim": 4}},
    {"GroupQueryAttention": {"head_dim": 4, "num_query_heads": 4, "num_key_value_heads": 2}},
    {"MultiHeadAttention": {"num_heads": 2, "key_dim": 4, "dropout": 0.2}},
])  # fmt: skip
@pytest.mark.parametrize("causal", [False, True])
def test_self_attention(spec: dict[str, Any], causal: bool) -> None:
    ((name, options),) = spec.items()
    x = rows(np.random.default_rng(3), 4, 6, 5)
    hold_several({name: {**options, "use_causal_mask": causal}}, [x, x, x], apart=True, tolerance=2e-5)


DROPPING = [
    ({"Attention": {"dropout": 0.4}}, 1),
    ({"Attention": {"dropout": 0.4, "score_mode": "concat", "seed": 5}}, 1),
    ({"AdditiveAttention": {"dropout": 0.4}}, 1),
]


def passed(spec: Any, xs: list[torch.Tensor], step: int = 0, training: bool = True) -> torch.Tensor:
    cell, _ = several_of(spec, [(None, *x.shape[1:]) for x in xs])
    cell.train(training)
    cell.clock.step = step
    return cell(xs)


@pytest.mark.parametrize(("spec", "_"), DROPPING)
def test_dropout_of_weights(spec: Any, _: int) -> None:
    """Equal scores and unit vectors as values: the output is the weights after dropout."""
    steps = 40
    xs = [torch.zeros(60, steps, 3), torch.eye(steps).repeat(60, 1, 1), torch.zeros(60, steps, 3)]
    weights = passed(spec, xs) * steps
    kept = weights != 0
    # 96,000 draws: six standard deviations of their mean are below 0.01.
    assert abs(1 - kept.float().mean().item() - 0.4) < 0.01
    torch.testing.assert_close(weights[kept], torch.full_like(weights[kept], 1 / 0.6))
    assert torch.equal(passed(spec, xs), passed(spec, xs))
    assert not torch.equal(passed(spec, xs), passed(spec, xs, step=1))
    torch.testing.assert_close(passed(spec, xs, training=False) * steps, torch.ones(60, steps, steps))


@pytest.mark.parametrize("name", HEADS)
def test_dropout_of_heads(name: str) -> None:
    """The mean over many steps is what prediction gives; a step and its seed give the same numbers again."""
    sizes = (
        {"num_heads": 2, "key_dim": 3}
        if name == HEADS[0]
        else {"head_dim": 3, "num_query_heads": 2, "num_key_value_heads": 1}
    )
    spec = {name: {**sizes, "dropout": 0.5}}
    random = np.random.default_rng(4)
    xs = [torch.from_numpy(rows(random, 3, 4, 5)), torch.from_numpy(rows(random, 3, 30, 5))]
    cell, _ = several_of(spec, [(None, *x.shape[1:]) for x in xs])
    cell.eval()
    still = cell(xs)
    cell.train()
    outs = []
    for cell.clock.step in range(400):
        outs.append(cell(xs).detach())
    made = torch.stack(outs)
    spread = made.std(0)
    assert (spread > 0).all()
    assert ((made.mean(0) - still).abs() / (spread / 20)).max() < 5
    assert torch.equal(passed(spec, xs, 7), passed(spec, xs, 7))
    seeded = [passed({name: {**sizes, "dropout": 0.5, "seed": s}}, xs) for s in (1, 1, 2)]
    assert torch.equal(seeded[0], seeded[1])
    assert not torch.equal(seeded[0], seeded[2])


def test_flash_kernel_gives_the_same_numbers() -> None:
    random = np.random.default_rng(5)
    xs = [torch.from_numpy(rows(random, 3, 4, 8)), torch.from_numpy(rows(random, 3, 6, 8))]
    for causal in (False, True):
        spec = {"num_heads": 2, "key_dim": 8, "use_causal_mask": causal}
        plain, flash = (passed({"MultiHeadAttention": {**spec, "flash_attention": f}}, xs) for f in (None, True))
        torch.testing.assert_close(plain, flash)


def test_flash_kernel_says_where_it_can_not_run() -> None:
    spec = {"MultiHeadAttention": {"num_heads": 2, "key_dim": 8, "value_dim": 3, "flash_attention": True}}
    xs = [torch.zeros(3, 4, 8), torch.zeros(3, 6, 8)]
    with (
        pytest.warns(UserWarning, match="[Ff]lash"),
        pytest.raises(RecipeError, match="flash kernel can't take this input"),
    ):
        passed(spec, xs)


MULTI = {"num_heads": 2, "key_dim": 3}
GROUP = {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}
COMMON = {
    "dropout": 0.25, "use_bias": False, "sliding_window": 3, "kernel_initializer": {"HeNormal": {"seed": 3}},
    "bias_initializer": "Ones", "kernel_regularizer": {"L2": {"l2": 0.5}}, "bias_regularizer": {"L1": {"l1": 0.25}},
    "activity_regularizer": {"L1": {"l1": 0.5}}, "kernel_constraint": "NonNeg", "bias_constraint": "UnitNorm",
    "use_gate": True, "seed": 5, "name": "a.b", "trainable": False,
}  # fmt: skip
CONFIGS = [
    "Attention",
    {"Attention": {"use_scale": True, "score_mode": "concat", "dropout": 0.5, "seed": 3}},
    "AdditiveAttention",
    {"AdditiveAttention": {"use_scale": False, "dropout": 0.5, "name": "a"}},
    {"MultiHeadAttention": MULTI},
    {"MultiHeadAttention": {**MULTI, **COMMON, "value_dim": 4, "output_shape": [2, 3], "attention_axes": [1, 2]}},
    {"MultiHeadAttention": {**MULTI, "flash_attention": True, "output_shape": 5, "attention_axes": -2}},
    {"GroupQueryAttention": GROUP},
    {"GroupQueryAttention": {**GROUP, **COMMON}},
]


@pytest.mark.parametrize("spec", CONFIGS, ids=str)
def test_config(spec: Any) -> None:
    more = ["seed"] if "Additive" in str(spec) else ["flash_attention"]
    if "MultiHead" in str(spec) and "value_dim" not in str(spec):
        more.append("value_dim")
    hold_config(spec, *more)


X = (None, 4, 5)
REFUSED = [
    ("Attention", [X], "list of 2 or 3 inputs, \\[query, value\\] or"),
    ("Attention", [X] * 4, "found 4"),
    ("Attention", [(None, 5), (None, 5)], r"\(batch, time, features\)"),
    ("Attention", [X, (None, 4, 3)], "as many features in query and key, found 5 and 3"),
    ("AdditiveAttention", [X, X, (None, 3, 5)], "as many steps in value and key, found 4 and 3"),
    ({"MultiHeadAttention": MULTI}, [(None, 5), (None, 5)], r"\(batch, time, \.\.\., features\)"),
    ({"MultiHeadAttention": MULTI}, [X, X, (None, 3, 5)], "as many steps in value and key"),
    ({"MultiHeadAttention": MULTI}, [(None, 4, None), X], "axis c of abc,cde->abde needs a size in the input"),
    ({"MultiHeadAttention": {**MULTI, "attention_axes": 2}}, [X, X], "attention_axes from 1 to 1"),
    (
        {"MultiHeadAttention": {**MULTI, "attention_axes": 2, "use_causal_mask": True}},
        [(None, 4, 4, 5)] * 2,
        "over axis 1",
    ),
    ({"MultiHeadAttention": {**MULTI, "attention_axes": 2}}, [(None, 4, 4, 5), (None, 3, 4, 5)], "entries of axis 1"),
    ({"GroupQueryAttention": GROUP}, [(None, 4, 4, 5)] * 2, r"\(batch, time, features\)"),
    ({"GroupQueryAttention": GROUP}, [X, (None, 4, 3)], "as many features in query and value"),
    ({"GroupQueryAttention": GROUP}, [X, X, (None, 3, 5)], "as many steps in value and key"),
]


@pytest.mark.parametrize(("spec", "shapes", "words"), REFUSED)
def test_refuses_inputs(spec: Any, shapes: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Layer.parse(spec).build(Plan(), shapes)


@pytest.mark.parametrize(
    "spec", ["Attention", "AdditiveAttention", {"MultiHeadAttention": MULTI}, {"GroupQueryAttention": GROUP}], ids=str
)
def test_in_a_chain_the_error_has_a_place(spec: Any) -> None:
    layer = Layer.parse(spec)
    with pytest.raises(RecipeError, match=r"expected a list of 2 or 3 inputs, .* found one; in a chain") as caught:
        chain([layer], {"x": (None, 4, 5)})
    assert caught.value.problems[0].path == ("model", "layers", 0, type(layer).__name__)


@pytest.mark.parametrize("spec", ["Attention", {"MultiHeadAttention": {**MULTI, "attention_axes": [1, 2]}}])
def test_refuses_a_mask_of_other_axes(spec: Any) -> None:
    x = torch.zeros(2, 4, 5, 3)
    cell, _ = several_of(spec, [(None, 4, 5, 3)] * 2)
    with pytest.raises(RecipeError, match="mask"):
        cell([x, x], mask=[torch.ones(2, 4, dtype=torch.bool), None])


@pytest.mark.parametrize(
    ("name", "options", "option"),
    [
        ("Attention", {"score_mode": "general"}, "score_mode"),
        ("Attention", {"dropout": 1.5}, "dropout"),
        ("AdditiveAttention", {"score_mode": "dot"}, "score_mode"),
        ("MultiHeadAttention", {**MULTI, "num_heads": 0}, "num_heads"),
        ("MultiHeadAttention", {**MULTI, "sliding_window": 0}, "sliding_window"),
        ("MultiHeadAttention", {**MULTI, "dropout": 0.5, "flash_attention": True}, "flash_attention"),
        ("GroupQueryAttention", {**GROUP, "num_key_value_heads": 3}, "num_key_value_heads"),
    ],
)
def test_refuses_options(name: str, options: Any, option: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse({name: options})
    assert problems_of(caught.value)[0].path == (name, option)
