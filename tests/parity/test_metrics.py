"""Every metric against Keras over streamed batches, with and without weights and masks; the rules for their names."""

from __future__ import annotations

import itertools
import re
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras.src.trainers.compile_utils import get_metric

from tests.parity.census import held
from tests.parity.harness import close
from trainer.errors import DataError, RecipeError
from trainer.losses.base import Loss
from trainer.metrics.at import BestAt
from trainer.metrics.auc import AUC
from trainer.metrics.base import Mean, Metric
from trainer.metrics.resolve import BY_SHAPE, resolve

CASES: list[tuple[str, dict[str, Any], str]] = [
    ("Accuracy", {}, "equal"),
    ("BinaryAccuracy", {}, "flags"),
    ("BinaryAccuracy", {"threshold": 0.3}, "flags"),
    ("CategoricalAccuracy", {}, "one_hot"),
    ("SparseCategoricalAccuracy", {}, "labels"),
    ("TopKCategoricalAccuracy", {"k": 2}, "one_hot"),
    ("SparseTopKCategoricalAccuracy", {"k": 3}, "labels"),
    ("MeanSquaredError", {}, "numbers"),
    ("RootMeanSquaredError", {}, "numbers"),
    ("MeanAbsoluteError", {}, "numbers"),
    ("MeanAbsolutePercentageError", {}, "numbers"),
    ("MeanSquaredLogarithmicError", {}, "numbers"),
    ("CosineSimilarity", {}, "numbers"),
    ("LogCoshError", {}, "numbers"),
    ("KLDivergence", {}, "one_hot"),
    ("Poisson", {}, "counts"),
    ("Hinge", {}, "flags"),
    ("SquaredHinge", {}, "flags"),
    ("CategoricalHinge", {}, "one_hot"),
    ("BinaryCrossentropy", {}, "flags"),
    ("BinaryCrossentropy", {"label_smoothing": 0.1}, "flags"),
    ("BinaryCrossentropy", {"from_logits": True}, "flag_scores"),
    ("CategoricalCrossentropy", {"label_smoothing": 0.1}, "one_hot"),
    ("SparseCategoricalCrossentropy", {}, "labels"),
    ("SparseCategoricalCrossentropy", {"ignore_class": 1}, "labels"),
    ("PearsonCorrelation", {}, "numbers"),
    ("ConcordanceCorrelation", {}, "numbers"),
]
FLAGS: list[tuple[str, dict[str, Any]]] = [
    *((n, {}) for n in ("TruePositives", "FalsePositives", "TrueNegatives", "FalseNegatives", "Precision", "Recall")),
    *((n, {"thresholds": 0.4}) for n in ("TruePositives", "FalseNegatives", "Precision", "Recall")),
    *((n, {"thresholds": [0.7, 0.1, 0.35]}) for n in ("FalsePositives", "TrueNegatives", "Precision", "Recall")),
    *((n, {"thresholds": [0.0, 0.25, 0.5, 0.75, 1.0]}) for n in ("TruePositives", "Precision", "Recall")),
    *((n, o) for n in ("Precision", "Recall") for o in ({"top_k": 2}, {"class_id": 1}, {"top_k": 1, "class_id": 0})),
    *((n, {"top_k": 2, "thresholds": [0.5, 0.2]}) for n in ("Precision", "Recall")),
    *(
        ("AUC", {"curve": curve, "summation_method": method, "num_thresholds": number})
        for curve in ("ROC", "PR", "PRGAIN")
        for method in ("interpolation", "majoring", "minoring")
        for number in (2, 11, 200)
    ),
    ("AUC", {"thresholds": [0.9, 0.2, 0.5]}),
    ("AUC", {"thresholds": [0.25, 0.5, 0.75]}),
    ("AUC", {"from_logits": True}),
    ("AUC", {"label_weights": [0.5, 1.0, 0.0, 2.0]}),
    ("AUC", {"multi_label": True}),
    ("AUC", {"multi_label": True, "num_labels": 4, "curve": "PR"}),
    ("AUC", {"multi_label": True, "label_weights": [0.5, 1.0, 0.0, 2.0]}),
    ("AUC", {"multi_label": True, "thresholds": [0.3, 0.4]}),
    *(
        (n, {"average": average, "threshold": threshold, **more})
        for n, more in (("F1Score", {}), ("FBetaScore", {"beta": 2.0}))
        for average in (None, "micro", "macro", "weighted")
        for threshold in (None, 0.4)
    ),
    *(
        (name, {option: least, **more})
        for name, option in (
            ("SensitivityAtSpecificity", "specificity"),
            ("SpecificityAtSensitivity", "sensitivity"),
            ("PrecisionAtRecall", "recall"),
            ("RecallAtPrecision", "precision"),
        )
        for least in (0.0, 0.35, 0.6, 1.0)
        for more in ({}, {"num_thresholds": 21}, {"num_thresholds": 2}, {"num_thresholds": 1}, {"class_id": 1})
    ),
]
SCORED = {"sparse_y_true": False, "sparse_y_pred": False}
IOU: list[tuple[str, dict[str, Any], str]] = [
    ("MeanIoU", {"num_classes": 4}, "classes"),
    ("MeanIoU", {"num_classes": 4, "sparse_y_pred": False}, "labels"),
    ("MeanIoU", {"num_classes": 4, "ignore_class": 1}, "classes"),
    ("MeanIoU", {"num_classes": 4, **SCORED}, "one_hot"),
    ("MeanIoU", {"num_classes": 4, "dtype": "float32"}, "classes"),
    ("MeanIoU", {"num_classes": 3}, "classes"),
    ("IoU", {"num_classes": 4, "target_class_ids": [2, 0]}, "classes"),
    ("IoU", {"num_classes": 5, "target_class_ids": [1, 4], "ignore_class": 0, "dtype": "float32"}, "classes"),
    ("IoU", {"num_classes": 4, "target_class_ids": [3], **SCORED}, "one_hot"),
    ("OneHotIoU", {"num_classes": 4, "target_class_ids": [1, 2]}, "one_hot"),
    ("OneHotIoU", {"num_classes": 4, "target_class_ids": [1], "ignore_class": 3, "dtype": "float32"}, "one_hot"),
    ("OneHotMeanIoU", {"num_classes": 4}, "one_hot"),
    ("OneHotMeanIoU", {"num_classes": 4, "ignore_class": 0}, "one_hot"),
    ("BinaryIoU", {}, "flags"),
    ("BinaryIoU", {"target_class_ids": [1], "threshold": 0.3}, "flags"),
    ("BinaryIoU", {"target_class_ids": [0], "dtype": "float32"}, "flags"),
]


def batch(target: str, shape: tuple[int, ...], random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A target and an output."""
    score = random.normal(0, 1.5, shape).astype("float32")
    label = random.integers(0, shape[-1], shape[:-1])
    share = np.exp(score) / np.exp(score).sum(-1, keepdims=True)
    if target == "labels":
        return label, share
    if target == "one_hot":
        return np.eye(shape[-1], dtype="float32")[label], share
    if target in ("flags", "flag_scores"):
        flags = random.integers(0, 2, shape).astype("float32")
        # Coarse values, so that some stand exactly on a threshold.
        return flags, score if target == "flag_scores" else random.integers(0, 21, shape).astype("float32") / 20
    if target == "classes":
        # Some are out of range, and do not count.
        return random.integers(-1, 5, shape), random.integers(-1, 5, shape)
    if target == "counts":
        return random.poisson(2, shape).astype("float32"), np.exp(score)
    if target == "equal":
        return random.integers(0, 3, shape).astype("float32"), random.integers(0, 3, shape).astype("float32")
    return random.normal(0, 1, shape).astype("float32"), score


def twin(metric: Metric) -> Any:
    held(metric)
    described = metric.to_keras()
    return keras.metrics.deserialize({**described, "config": {**described["config"], "name": "twin"}})


def hold(metric: Metric, batches: list[tuple[Any, ...]]) -> None:
    """Streamed batches (target, output, weight or None, mask or None): the value after each."""
    theirs, state = twin(metric), metric.start()
    for number, arrays in enumerate(batches):
        y_true, y_pred, weight, mask = (None if a is None else torch.from_numpy(np.array(a)) for a in arrays)
        metric.update(state, y_true, y_pred, weight, mask)
        if mask is not None:
            keras.src.backend.set_keras_mask(y_pred, mask)
        theirs.update_state(y_true, y_pred, sample_weight=weight)
        # An area may be 0, which has no scale; and where the best share is a small one, its float32 is coarse.
        above = float(isinstance(metric, (AUC, BestAt)))
        close(metric.result(state).float() + above, theirs.result() + above, f"{metric!r} after batch {number}")


@pytest.mark.parametrize(("name", "options", "target"), CASES)
def test_means(name: str, options: dict[str, Any], target: str) -> None:
    metric, random = Metric.parse({name: options}), np.random.default_rng(2)
    assert isinstance(metric, Mean)
    for steps, weighs, masks in itertools.product([(), (3,)], [False, True], [False, True]):
        batches = []
        for rows in (9, 4, 1):
            y_true, y_pred = batch(target, (rows, *steps, 4), random)
            weight = random.uniform(0, 2, (rows, *steps)).astype("float32") if weighs else None
            batches.append((y_true, y_pred, weight, random.integers(0, 2, (rows, *steps)) == 1 if masks else None))
        hold(metric, batches)


@pytest.mark.parametrize(("name", "options", "target"), [c for c in CASES if c[2] in ("flags", "numbers", "equal")])
def test_ranks_that_differ_by_one(name: str, options: dict[str, Any], target: str) -> None:
    metric, random = Metric.parse({name: options}), np.random.default_rng(2)
    batches = [(*batch(target, (rows, 1), random), random.uniform(0, 2, rows).astype("float32")) for rows in (8, 3)]
    hold(metric, [(y, p, None, None) for y, p, _ in batches])
    hold(metric, [(y, p, w, None) for y, p, w in batches])
    hold(metric, [(y, p, w[:, None], None) for y, p, w in batches])
    if name in ("BinaryCrossentropy", "Hinge", "SquaredHinge"):
        # Keras's metrics refuse here what its losses take (or pair every target with every output); ours are the loss.
        y_true, y_pred = (torch.from_numpy(a) for a in batches[0][:2])
        state = metric.start()
        metric.update(state, y_true[:, 0], y_pred)
        close(metric.result(state).float(), Loss.parse({name: options})(y_true, y_pred), name)
        return
    hold(metric, [(y[:, 0], p, None, None) for y, p, _ in batches])
    hold(metric, [(y[:, 0], p, w, None) for y, p, w in batches])


def test_labels_with_an_axis_of_their_own_and_of_any_type() -> None:
    random = np.random.default_rng(4)
    for name, kind in itertools.product(["SparseCategoricalAccuracy", "SparseTopKCategoricalAccuracy"], ["u1", "f4"]):
        y, p = batch("labels", (12, 6), random)
        weight = random.uniform(0, 1, 12).astype("float32")
        hold(Metric.parse(name), [(y.astype(kind)[:, None], p, None, None), (y.astype(kind), p, weight, None)])
    best = random.permuted(np.tile(np.arange(6), (12, 1)), axis=1)
    hold(Metric.parse({"SparseTopKCategoricalAccuracy": {"k": 2, "from_sorted_ids": True}}), [(y, best, None, None)])


@pytest.mark.parametrize(("name", "options"), FLAGS)
def test_flags(name: str, options: dict[str, Any]) -> None:
    metric, random = Metric.parse({name: options}), np.random.default_rng(2)
    target = "flag_scores" if options.get("from_logits") else "flags"
    shapes = (
        [(4,)] if name in ("F1Score", "FBetaScore") or {"multi_label", "label_weights"} & set(options) else [(4,), (1,)]
    )
    if {"top_k", "class_id"} & set(options):
        shapes = [(4,)]
    for shape, weighs in itertools.product(shapes, [False, True]):
        batches = []
        for rows in (30, 7, 1):
            y_true, y_pred = batch(target, (rows, *shape), random)
            weight = random.uniform(0, 2, rows).astype("float32") if weighs else None
            batches.append((y_true, y_pred, weight, None))
        hold(metric, batches)
        if shape == (1,):
            hold(metric, [(y[:, 0], p, w, None) for y, p, w, _ in batches])
            hold(metric, [(y[:, 0], p[:, 0], w, None) for y, p, w, _ in batches])


@pytest.mark.filterwarnings("ignore:You are passing weight as `float`")
@pytest.mark.parametrize(("name", "options", "target"), IOU)
def test_intersection_over_union(name: str, options: dict[str, Any], target: str) -> None:
    metric, random = Metric.parse({name: options}), np.random.default_rng(2)
    for steps, weighs in itertools.product([(), (3,), (2, 3)], [False, True]):
        batches = []
        for rows in (30, 7, 1):
            y_true, y_pred = batch(target, (rows, *steps, 4), random)
            positions = y_true.shape[:-1] if target == "one_hot" else y_true.shape
            weight = random.uniform(0, 3, positions).astype("float32") if weighs else None
            batches.append((y_true, y_pred, weight, None))
        hold(metric, batches)


def test_weights_of_samples_weigh_their_pictures() -> None:
    """Keras refuses such weights here."""
    metric, random = Metric.parse({"MeanIoU": {"num_classes": 4, "dtype": "float32"}}), np.random.default_rng(2)
    y_true, y_pred = (torch.from_numpy(a) for a in batch("classes", (5, 3, 4), random))
    states = [metric.start(), metric.start()]
    weight = torch.from_numpy(random.uniform(0, 2, 5))
    metric.update(states[0], y_true, y_pred, weight)
    metric.update(states[1], y_true, y_pred, weight[:, None, None].expand(5, 3, 4))
    assert torch.equal(states[0]["confusion"], states[1]["confusion"])


def test_classes_on_another_axis() -> None:
    random = np.random.default_rng(2)
    y_true, y_pred = (np.moveaxis(a, -1, 1).copy() for a in batch("one_hot", (6, 3, 4), random))
    ours = Metric.parse({"OneHotMeanIoU": {"num_classes": 4, "axis": 1}})
    plain = Metric.parse({"OneHotMeanIoU": {"num_classes": 4}})
    states = [ours.start(), plain.start()]
    ours.update(states[0], torch.from_numpy(y_true), torch.from_numpy(y_pred))
    plain.update(states[1], *(torch.from_numpy(np.moveaxis(a, 1, -1)) for a in (y_true, y_pred)))
    assert torch.equal(ours.result(states[0]), plain.result(states[1]))
    # Keras's result fails for any axis but 0 and -1, which it takes for that of the classes' scores.
    with pytest.raises(IndexError):
        hold(ours, [(y_true, y_pred, None, None)])


R2: list[dict[str, Any]] = [
    *({"class_aggregation": how} for how in ("uniform_average", "variance_weighted_average", None)),
    *({"num_regressors": number} for number in (1, 3)),
    {"num_regressors": 2, "class_aggregation": None},
]


@pytest.mark.parametrize("options", R2, ids=str)
def test_r2(options: dict[str, Any]) -> None:
    metric, random = Metric.parse({"R2Score": options}), np.random.default_rng(2)
    for width, weighs in itertools.product([1, 3], [None, (), (1,)]):
        batches = []
        for rows in (30, 7, 1):
            y_true, noise = batch("numbers", (rows, width), random)
            shape = None if weighs is None else (rows, *weighs)
            weight = None if shape is None else random.uniform(0, 2, shape).astype("float32")
            batches.append((y_true, y_true + 0.3 * noise, weight, None))
        hold(metric, batches)
        if width == 1:
            hold(metric, [(y[:, 0], p, w, None) for y, p, w, _ in batches])


@pytest.mark.filterwarnings("ignore:More independent predictors", "ignore:Division by zero in Adjusted")
def test_r2_of_few_or_equal_numbers() -> None:
    metric = Metric.parse({"R2Score": {"num_regressors": 3}})
    numbers = np.array([[1.0], [2.0], [4.0], [3.0], [3.5]], "float32")
    hold(metric, [(numbers[:3], numbers[:3] + 0.5, None, None), (numbers[3:4], numbers[2:3], None, None)])
    for apart in (0.0, 1.0):
        hold(Metric.parse("R2Score"), [(np.ones((3, 1), "float32"), np.full((3, 1), 1 + apart, "float32"), None, None)])
    with pytest.raises(DataError, match="R2Score expects"):
        metric.update(metric.start(), torch.zeros(3), torch.zeros(3))


@pytest.mark.parametrize("axis", [0, 1, [0, 1], [1, 2]], ids=str)
@pytest.mark.parametrize("name", ["PearsonCorrelation", "ConcordanceCorrelation"])
def test_correlations_along_any_axes(name: str, axis: Any) -> None:
    metric, random = Metric.parse({name: {"axis": axis}}), np.random.default_rng(2)
    hold(metric, [(*batch("numbers", (rows, 3, 5), random), None, None) for rows in (8, 4)])


@pytest.mark.parametrize("name", ["Precision", "Recall", "AUC", "F1Score"])
def test_flags_of_one_kind_only(name: str) -> None:
    for flag in (0.0, 1.0):
        y_pred = np.array([[0.0], [0.2], [0.5], [1.0]], "float32")
        hold(Metric.parse(name), [(np.full((4, 1), flag, "float32"), y_pred, None, None)])


def test_masks_do_not_reach_these_metrics_in_keras() -> None:
    random = np.random.default_rng(0)
    for name in ("Precision", "Recall", "AUC", "TruePositives", "F1Score", "RootMeanSquaredError"):
        y_true, y_pred = batch("flags", (9, 3), random)
        hold(Metric.parse(name), [(y_true, y_pred, None, random.integers(0, 2, 9) == 1)])


def test_every_metric_is_held() -> None:
    in_keras = {metric.__name__ for metric in Metric.spellings().values() if metric.keras}
    assert {n for n, *_ in (*CASES, *FLAGS, *IOU)} | {"R2Score"} == in_keras
    assert len(in_keras) == 42
    assert set(Metric.catalogue) - in_keras == {"CharacterErrorRate"}


NEEDED = {"num_classes": 3, "target_class_ids": [0], "specificity": 0.5, "sensitivity": 0.5}
NEEDED |= {"recall": 0.5, "precision": 0.5}


def plain(name: str) -> Metric:
    """The metric with nothing but what it needs."""
    fields = Metric.catalogue[name].model_fields
    return Metric.parse({name: {n: NEEDED[n] for n, f in fields.items() if f.is_required()}})


def test_nothing_seen_is_zero() -> None:
    for name in Metric.catalogue:
        metric = plain(name)
        assert float(metric.result(metric.start())) == 0


def test_counts_stay_exact_in_long_epochs() -> None:
    metric = Metric.parse("BinaryAccuracy")
    state = metric.start()
    state["total"] += 2**24
    state["count"] += 2**24
    metric.update(state, torch.ones(1, 1), torch.zeros(1, 1))
    assert float(metric.result(state)) == 2**24 / (2**24 + 1)


SHAPES = [((5,), (5, 1)), ((5, 1), (5, 1)), ((5,), (5, 3)), ((5, 1), (5, 3)), ((5, 3), (5, 3)), ((5, 7), (5, 7, 3))]


@pytest.mark.parametrize(("y_true", "y_pred"), SHAPES)
@pytest.mark.parametrize("word", ["accuracy", "acc", "Accuracy", "ACC"])
def test_accuracy_by_shape(word: str, y_true: tuple[int, ...], y_pred: tuple[int, ...]) -> None:
    theirs = get_metric(word, torch.zeros(y_true), torch.zeros(y_pred))
    ours = resolve(word, (None, *y_true[1:]), (None, *y_pred[1:]))
    assert (type(ours).__name__, ours.name) == (type(theirs).__name__, theirs.name)


def test_crossentropy_by_shape() -> None:
    found = [type(resolve(w, *s)).__name__ for w in ("crossentropy", "ce") for s in (SHAPES[0], SHAPES[2], SHAPES[4])]
    assert found == ["BinaryCrossentropy", "SparseCategoricalCrossentropy", "CategoricalCrossentropy"] * 2
    assert resolve("ce", *SHAPES[0]).name == "ce"


def test_names_in_logs() -> None:
    for name in ("mse", "MAE", "mean_absolute_error", "auc", "precision", "binary_accuracy", "log_cosh_error"):
        theirs = get_metric(name, torch.zeros(5, 1), torch.zeros(5, 1))
        ours = resolve(name, (5, 1), (5, 1))
        assert (type(ours).__name__, ours.name) == (type(theirs).__name__, theirs.name)
    for name in (n for n, metric in Metric.catalogue.items() if metric.keras):
        ours = plain(name)
        needed = {n: NEEDED[n] for n, f in type(ours).model_fields.items() if f.is_required()}
        # Keras numbers the names that it makes.
        given = re.sub(r"_\d+$", "", getattr(keras.metrics, name)(**needed).name)
        assert resolve(ours, (5, 1), (5, 1)).name == given
    assert resolve(Metric.parse({"Precision": {"name": "p"}}), (5, 1), (5, 1)).name == "p"
    with pytest.raises(RecipeError, match="no metric called"):
        resolve("acuracy", (5, 1), (5, 1))


def test_names_are_those_of_keras() -> None:
    ours, theirs = {n for n, metric in Metric.spellings().items() if metric.keras}, keras.src.metrics.ALL_OBJECTS_DICT
    known = {n for n, f in theirs.items() if f.__name__ in Metric.catalogue}
    assert ours == known
    assert set(BY_SHAPE) == {"accuracy", "acc", "Accuracy", "ACC", "crossentropy", "ce"}


def test_shapes_that_do_not_go_together() -> None:
    for name in ("Precision", "AUC", "F1Score"):
        metric = Metric.parse(name)
        with pytest.raises(DataError, match="shape"):
            metric.update(metric.start(), torch.zeros(5), torch.zeros(5, 3))
    metric = Metric.parse("mae")
    with pytest.raises(DataError, match="shape"):
        metric.update(metric.start(), torch.zeros(5, 3), torch.zeros(5, 3), torch.ones(4))


@pytest.mark.parametrize(
    "spec",
    [
        {"AUC": {"num_thresholds": 1}},
        {"AUC": {"num_labels": 3}},
        {"Precision": {"thresholds": 1.5}},
        {"Recall": {"thresholds": []}},
        {"F1Score": {"threshold": 0}},
        {"TopKCategoricalAccuracy": {"k": 0}},
        {"IoU": {"num_classes": 3, "target_class_ids": [3]}},
        {"MeanIoU": {"num_classes": 0}},
        {"BinaryIoU": {"target_class_ids": [2]}},
        {"PrecisionAtRecall": {"recall": 1.5}},
        {"R2Score": {"class_aggregation": "mean"}},
    ],
)
def test_options_out_of_range(spec: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|goes with"):
        Metric.parse(spec)


@pytest.mark.parametrize(
    ("options", "y_pred", "said"),
    [
        ({}, [0.2, 1.0, 0.7], "found scores such as 0.2(?s:.*)sparse_y_pred: false"),
        ({}, [[0.2, 0.8]] * 3, r"expected a class for each target, found targets \(3,\) and outputs \(3, 2\)"),
        ({"sparse_y_pred": False}, [[[0.2, 0.8]] * 2] * 3, r"outputs \(3, 2, 2\)(?s:.*)sparse_y_pred: true"),
    ],
)
def test_scores_that_are_no_class_numbers_are_refused(options: dict[str, Any], y_pred: Any, said: str) -> None:
    """Keras cuts scores down to class 0 without a word."""
    metric = Metric.parse({"MeanIoU": {"num_classes": 2, **options}})
    with pytest.raises(DataError, match=said):
        metric.update(metric.start(), torch.tensor([0, 1, 1]), torch.tensor(y_pred))
