"""Every loss against Keras: values and gradients over options, reductions, weights, masks, ranks and edge values."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import pytest
import torch

from tests.parity.census import held
from tests.parity.harness import close
from trainer.errors import DataError
from trainer.losses.base import Loss
from trainer.losses.crossentropy import check_classes
from trainer.naming import snake_case

REDUCTIONS = ["sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None]
LOGITS = [False, True]
NUMBERS = ["MeanSquaredError", "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanSquaredLogarithmicError"]
CASES: list[tuple[str, dict[str, Any], str]] = [
    *((name, {}, "numbers") for name in (*NUMBERS, "CosineSimilarity", "Huber", "LogCosh")),
    ("Huber", {"delta": 0.3}, "numbers"),
    *((name, {}, "signs") for name in ("Hinge", "SquaredHinge")),
    *((name, {}, "flags") for name in ("Hinge", "SquaredHinge")),
    ("CategoricalHinge", {}, "one_hot"),
    ("KLDivergence", {}, "one_hot"),
    ("Poisson", {}, "counts"),
    *(
        ("BinaryCrossentropy", {"from_logits": logits, "label_smoothing": smoothing}, "flags")
        for logits, smoothing in itertools.product(LOGITS, [0.0, 0.2])
    ),
    *(
        ("CategoricalCrossentropy", {"from_logits": logits, "label_smoothing": smoothing}, "one_hot")
        for logits, smoothing in itertools.product(LOGITS, [0.0, 0.2])
    ),
    *(
        ("SparseCategoricalCrossentropy", {"from_logits": logits, "ignore_class": ignored}, "labels")
        for logits, ignored in itertools.product(LOGITS, [None, 2])
    ),
    *(
        ("BinaryFocalCrossentropy", {"from_logits": logits, "label_smoothing": smoothing, **more}, "flags")
        for logits, smoothing in itertools.product(LOGITS, [0.0, 0.2])
        for more in ({}, {"apply_class_balancing": True, "alpha": 0.4, "gamma": 1.5})
    ),
    *(
        ("CategoricalFocalCrossentropy", {"from_logits": logits, "label_smoothing": smoothing, **more}, "one_hot")
        for logits, smoothing in itertools.product(LOGITS, [0.0, 0.2])
        for more in ({}, {"alpha": 0.4, "gamma": 1.5})
    ),
    *(("CategoricalGeneralizedCrossEntropy", {"q": q}, "labels") for q in (0.5, 0.9)),
    *(("Dice", {"axis": axis}, "flags") for axis in (None, -1)),
    *(("Tversky", {"axis": axis, "alpha": 0.3, "beta": 0.6}, "flags") for axis in (None, -1)),
    ("Tversky", {}, "one_hot"),
]
IDS = [f"{n}-{t}-{'-'.join(map(str, o.values()))}" for n, o, t in CASES]


def batch(target: str, logits: bool, shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A target and an output of that shape."""
    random = np.random.default_rng(seed)
    score = random.normal(0, 2, shape).astype("float32")
    share = np.exp(score) / np.exp(score).sum(-1, keepdims=True)
    label = random.integers(0, shape[-1], shape[:-1])
    if target == "labels":
        return label, score if logits else share
    if target == "one_hot":
        return np.eye(shape[-1], dtype="float32")[label], score if logits else share * 0.7
    if target == "flags":
        flags = random.integers(0, 2, shape)
        return flags.astype("float32"), score if logits else (1 / (1 + np.exp(-score))).astype("float32")
    if target == "signs":
        return (random.integers(0, 2, shape) * 2 - 1).astype("float32"), score
    if target == "counts":
        return random.poisson(2, shape).astype("float32"), np.exp(score)
    return random.normal(0, 1, shape).astype("float32"), score


def twin(loss: Loss) -> Any:
    """Keras's loss from our config (Keras names it itself)."""
    held(loss)
    described = loss.to_keras()
    described["config"] = {k: v for k, v in described["config"].items() if k != "name"}
    # Keras's own `losses.deserialize` does not know all of its losses.
    return keras.saving.deserialize_keras_object(described)


def hold(loss: Loss, y_true: np.ndarray, y_pred: np.ndarray, weight: Any = None, mask: Any = None) -> None:
    """Value and gradient of one batch."""
    label, what = torch.from_numpy(y_true), f"{loss!r} {y_true.shape} {y_pred.shape}"
    ours_p, their_p = (torch.from_numpy(y_pred.copy()).requires_grad_() for _ in range(2))
    weight, mask = (None if a is None else torch.from_numpy(a) for a in (weight, mask))
    if mask is not None:
        keras.src.backend.set_keras_mask(their_p, mask)
    ours = loss(label, ours_p, weight, mask)
    theirs = twin(loss)(label, their_p, weight)
    close(ours, theirs, what)
    ours.sum().backward()
    theirs.sum().backward()
    close(ours_p.grad, their_p.grad, f"{what}: gradient")


def made(name: str, options: dict[str, Any], reduction: str | None = "sum_over_batch_size") -> Loss:
    return Loss.parse({name: {**options, "reduction": reduction}})


@pytest.mark.parametrize(("name", "options", "target"), CASES, ids=IDS)
def test_reductions_weights_and_masks(name: str, options: dict[str, Any], target: str) -> None:
    random = np.random.default_rng(3)
    logits = options.get("from_logits", False)
    for reduction, shape in itertools.product(REDUCTIONS, [(7, 4), (5, 3, 4)]):
        loss = made(name, options, reduction)
        y_true, y_pred = batch(target, logits, shape)
        weight = random.uniform(0, 2, shape[:-1]).astype("float32")
        mask = random.integers(0, 2, shape[:-1]).astype(bool)
        for w, m in itertools.product([None, weight], [None, mask]):
            hold(loss, y_true, y_pred, w, m)
        hold(loss, y_true, y_pred, np.ones(shape[:-1], "int64"), np.zeros(shape[:-1], bool))
        if reduction not in ("none", None):
            hold(loss, y_true, y_pred, np.zeros(shape[:-1], "float32"))
        hold(loss, y_true, y_pred, weight[..., None])


@pytest.mark.parametrize(("name", "options", "target"), [c for c in CASES if c[2] in ("numbers", "flags", "counts")])
def test_ranks_that_differ_by_one(name: str, options: dict[str, Any], target: str) -> None:
    logits = options.get("from_logits", False)
    for reduction in ("sum_over_batch_size", "none"):
        loss = made(name, options, reduction)
        y_true, y_pred = batch(target, logits, (6, 1))
        weight = np.random.default_rng(0).uniform(0, 2, 6).astype("float32")
        for a, b in [(y_true, y_pred), (y_true[:, 0], y_pred), (y_true, y_pred[:, 0])]:
            hold(loss, a, b)
            hold(loss, a, b, weight)
            hold(loss, a, b, weight[:, None])
        y_true, y_pred = batch(target, logits, (6, 3, 1))
        hold(loss, y_true[..., 0], y_pred)
        hold(loss, y_true, y_pred[..., 0])


@pytest.mark.parametrize("kind", ["uint8", "int8", "int16", "int32", "int64", "float32"])
def test_labels_of_every_number_type(kind: str) -> None:
    for logits, axis in itertools.product(LOGITS, [-1, 1]):
        loss = made("SparseCategoricalCrossentropy", {"from_logits": logits, "axis": axis})
        y_true, y_pred = batch("labels", logits, (9, 5))
        hold(loss, y_true.astype(kind), y_pred)
        hold(loss, y_true.astype(kind)[:, None], y_pred)
    y_true, y_pred = batch("flags", False, (8, 1))
    hold(made("BinaryCrossentropy", {}), y_true.astype(kind), y_pred)


@pytest.mark.parametrize("logits", LOGITS)
@pytest.mark.parametrize("axis", [1, -2])
def test_classes_on_another_axis(axis: int, logits: bool) -> None:
    y_true, y_pred = batch("labels", logits, (4, 3, 6))
    one_hot = np.eye(6, dtype="float32")[y_true]
    moved = np.moveaxis(y_pred, -1, axis).copy()
    hold(made("SparseCategoricalCrossentropy", {"from_logits": logits, "axis": axis}), y_true, moved)
    options = {"from_logits": logits, "axis": axis}
    hold(made("CategoricalCrossentropy", options), np.moveaxis(one_hot, -1, axis).copy(), moved)
    hold(made("CosineSimilarity", {"axis": axis}), *batch("numbers", False, (4, 3, 5)))


def test_classes_of_pictures() -> None:
    """The gradient of Keras's torch backend fails in torch for four axes, so ours is held against itself."""
    y_true, y_pred = (torch.from_numpy(a) for a in batch("labels", False, (4, 3, 5, 6)))
    flat = y_pred.reshape(-1, 6).requires_grad_()
    expected = made("SparseCategoricalCrossentropy", {})(y_true.reshape(-1), flat)
    expected.backward()
    assert flat.grad is not None
    for axis in (1, 2, 3, -1):
        moved = y_pred.movedim(-1, axis).contiguous().requires_grad_()
        found = made("SparseCategoricalCrossentropy", {"axis": axis})(y_true, moved)
        found.backward()
        close(found, expected.detach(), "pictures")
        assert moved.grad is not None
        close(moved.grad.movedim(axis, -1).reshape(-1, 6), flat.grad, "pictures: gradient")


EDGE = np.array([0.0, 1e-9, 1e-7, 0.5, 1 - 1e-7, 1 - 1e-9, 1.0], dtype="float32")


@pytest.mark.parametrize("axis", [None, 0, -1, [0, 1], [1, 2, 3], [0, 2], [-1, -2, -3]], ids=str)
@pytest.mark.parametrize("name", ["Dice", "Tversky"])
def test_overlap_along_any_axes(name: str, axis: Any) -> None:
    y_true, y_pred = batch("flags", False, (4, 3, 5, 2))
    for reduction in REDUCTIONS:
        hold(made(name, {"axis": axis}, reduction), y_true, y_pred)
    for nothing in (0.0, 1.0):
        hold(made(name, {"axis": axis}), np.full_like(y_true, nothing), y_pred)
        hold(made(name, {"axis": axis}), y_true, np.full_like(y_pred, nothing))


@pytest.mark.parametrize("axis", [0, 1, -2])
def test_focal_losses_along_another_axis(axis: int) -> None:
    for logits in LOGITS:
        hold(made("BinaryFocalCrossentropy", {"axis": axis, "from_logits": logits}), *batch("flags", logits, (4, 3, 5)))
        y_true, y_pred = (np.moveaxis(a, -1, axis).copy() for a in batch("one_hot", logits, (4, 3, 5)))
        hold(made("CategoricalFocalCrossentropy", {"axis": axis, "from_logits": logits}), y_true, y_pred)


@pytest.mark.parametrize("options", [{}, {"gamma": 10.0, "margin": 0.2}, {"remove_diagonal": False, "gamma": 3.0}])
def test_circle(options: dict[str, Any]) -> None:
    random = np.random.default_rng(1)
    y_pred = random.normal(size=(9, 4)).astype("float32")
    y_pred /= np.linalg.norm(y_pred, axis=1, keepdims=True)
    # Two samples of the classes 0 to 2 and three that are alone in theirs, which have no pair.
    y_true = np.array([0, 1, 2, 2, 1, 0, 3, 4, 50])
    weight, mask = random.uniform(0, 2, 9).astype("float32"), random.integers(0, 2, 9) == 1
    for reduction, w, m in itertools.product(REDUCTIONS, [None, weight], [None, mask]):
        hold(made("Circle", options, reduction), y_true, y_pred, w, m)
        hold(made("Circle", options, reduction), y_true[:, None], y_pred, w, m)
    hold(made("Circle", options), np.arange(9), y_pred)
    hold(made("Circle", options), np.zeros(9, "int32"), y_pred)
    with pytest.raises(DataError, match="Circle needs a target"):
        made("Circle", options)(torch.zeros(4), torch.zeros(5, 2))


def test_ctc() -> None:
    """Keras's class makes floats of the targets, which torch's function refuses; so its function is the twin."""
    random = np.random.default_rng(2)
    y_true, score = random.integers(1, 6, (5, 4)), random.normal(size=(5, 9, 6)).astype("float32")
    y_true[1, 2:], y_true[2], y_true[3] = 0, 0, 3
    mine, other = (torch.from_numpy(score).requires_grad_() for _ in range(2))
    weight = torch.from_numpy(random.uniform(0, 2, 5).astype("float32"))
    ours, theirs = made("CTC", {})(torch.from_numpy(y_true), mine, weight), keras.losses.ctc(y_true, other)
    close(made("CTC", {}, "none")(torch.from_numpy(y_true), mine), theirs, "CTC")
    ours.backward()
    (theirs * weight).mean().backward()
    close(mine.grad, other.grad, "CTC: gradient")
    assert torch.isinf(made("CTC", {})(torch.ones(1, 3), torch.zeros(1, 2, 3)))
    with pytest.raises(DataError, match="CTC needs a target"):
        made("CTC", {})(torch.ones(2, 3), torch.zeros(2, 3))


def test_where_clipping_bites() -> None:
    for flag in (0.0, 1.0, 0.3):
        for name in ("BinaryCrossentropy", "BinaryFocalCrossentropy"):
            hold(made(name, {}), np.full((7, 1), flag, "float32"), EDGE[:, None])
    rows = np.stack([EDGE, 1 - EDGE], 1)
    for label in (0, 1):
        hold(made("SparseCategoricalCrossentropy", {}), np.full(7, label), rows)
        hold(made("CategoricalGeneralizedCrossEntropy", {}), np.full(4, label), rows[1:5])
        hold(made("CategoricalFocalCrossentropy", {}), np.eye(2, dtype="float32")[np.full(7, label)], rows)
        hold(made("CategoricalCrossentropy", {}), np.eye(2, dtype="float32")[np.full(7, label)], rows)
    hold(made("KLDivergence", {}), rows[::-1].copy(), rows)
    hold(made("Poisson", {}), rows[::-1].copy(), rows)
    signed = np.array([[-1.0, 0.0, 1.0, 1e-8, -1e-8, 2.0]], "float32")
    for name in (*NUMBERS, "Huber", "LogCosh"):
        hold(made(name, {}), signed, signed[:, ::-1].copy())
        hold(made(name, {}), np.zeros_like(signed), signed)
        hold(made(name, {}), signed, signed)
    for name in ("Hinge", "SquaredHinge", "CategoricalHinge"):
        hold(made(name, {}), np.ones((2, 3), "float32"), np.array([[1.0, 2.0, 0.0], [-1.0, 1.0, 0.5]], "float32"))


def test_extreme_scores() -> None:
    score = np.array([[100.0, -100.0, 0.0], [1e4, 1e4, -1e4]], "float32")
    hold(made("BinaryCrossentropy", {"from_logits": True}), np.array([[0, 1, 1], [1, 0, 1]], "float32"), score)
    hold(made("SparseCategoricalCrossentropy", {"from_logits": True}), np.array([1, 2]), score)
    hold(made("CategoricalCrossentropy", {"from_logits": True}), np.eye(3, dtype="float32")[[1, 2]], score)


def test_losses_of_outputs_that_are_no_numbers() -> None:
    bad = torch.tensor([[float("nan")], [0.5]])
    assert torch.isnan(made("BinaryCrossentropy", {})(torch.zeros(2, 1), bad))
    assert torch.isnan(made("MeanSquaredError", {})(torch.zeros(2, 1), bad))


def test_half_precision_is_computed_in_float32() -> None:
    y_true, y_pred = batch("numbers", False, (5, 2))
    half = torch.from_numpy(y_pred).bfloat16()
    close(
        made("MeanSquaredError", {})(torch.from_numpy(y_true), half),
        twin(made("MeanSquaredError", {}))(y_true, half),
        "",
    )


@pytest.mark.parametrize("label", [-1, -100, 4, 255])
def test_labels_out_of_range_are_named(label: int) -> None:
    loss = made("SparseCategoricalCrossentropy", {})
    y_true = torch.tensor([0, 3, label, 1])
    for given in (y_true, y_true[:, None]):
        with pytest.raises(DataError, match=f"from 0 to 3, found {label} in row 2 of the batch"):
            loss(given, torch.full((4, 4), 0.25))
        with pytest.raises(DataError, match=f"found {label} in row 2"):
            loss.check(given, 4)
        for robust in (made("CategoricalGeneralizedCrossEntropy", {}),):
            with pytest.raises(DataError, match=f"from 0 to 3, found {label} in row 2"):
                robust(given, torch.full((4, 4), 0.25))
            with pytest.raises(DataError, match=f"found {label} in row 2"):
                robust.check(given, 4)
    loss.check(torch.tensor([0, 3, 1]), 4)
    made("SparseCategoricalCrossentropy", {"ignore_class": label}).check(y_true, 4)
    Loss.parse("mse").check(y_true, 4)


def test_labels_that_are_no_integers_are_named() -> None:
    with pytest.raises(DataError, match=r"found 0.5 in row 1"):
        check_classes(torch.tensor([1.0, 0.5]), 4)


def test_shapes_that_do_not_go_together() -> None:
    for name in ("BinaryCrossentropy", "CategoricalCrossentropy"):
        with pytest.raises(DataError, match=r"target has shape \(4, 2\), the output \(4, 3\)"):
            made(name, {})(torch.zeros(4, 2), torch.zeros(4, 3))
    with pytest.raises(DataError, match=r"shape \(5,\) do not go with values of shape \(4,\)"):
        made("MeanSquaredError", {})(torch.zeros(4, 3), torch.zeros(4, 3), torch.ones(5))
    with pytest.raises(DataError, match=r"class numbers of shape \(4,\), found \(4, 3\)"):
        made("SparseCategoricalCrossentropy", {})(torch.zeros(4, 3), torch.zeros(4, 3))


def test_weights_of_samples_weigh_their_steps() -> None:
    """Keras multiplies such weights along the last axis, by chance or in error; ours weigh whole samples."""
    y_true, y_pred = (torch.from_numpy(a) for a in batch("numbers", False, (3, 3, 2)))
    weight = torch.tensor([1.0, 2.0, 0.5])
    loss = made("MeanSquaredError", {})
    assert torch.equal(loss(y_true, y_pred, weight), loss(y_true, y_pred, weight[:, None].expand(3, 3)))


def test_names() -> None:
    """Every name of ours is one of Keras's, and every name of Keras's for a loss that we have is one of ours."""
    ours, theirs = Loss.spellings(), keras.src.losses.ALL_OBJECTS_DICT
    # Keras has no short name for it, and can't read its own HDF5 file of a model that has it.
    forgotten = {"CategoricalGeneralizedCrossEntropy", "categorical_generalized_cross_entropy"}
    assert set(ours) - forgotten <= {*theirs, *(snake_case(n) for n in theirs), "kl_divergence"}
    for name in set(ours) - forgotten:
        assert callable(keras.losses.get(name))
    known = {name for name, final in theirs.items() if name in ours or snake_case(final.__name__) in ours}
    assert known <= set(ours)
    assert len(known) == 12 + 2 * 21
    assert {n for n, _, _ in CASES} | {"Circle", "CTC"} == set(Loss.catalogue)
