"""Gradients by hand against autograd: every layer, activation and loss that knows its own, in drawn configurations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.parity import (
    test_activation_layers,
    test_borders,
    test_conv,
    test_conv_depthwise,
    test_conv_transpose,
    test_pooling,
    test_regularization_layers,
    test_upsampling,
)
from tests.parity.by_hand import (
    BATCH,
    STEPS,
    Islands,
    by_hand_alone,
    hold,
    hold_steps,
    hold_typed,
    normal,
    overriding,
    squared,
)
from tests.parity.test_losses import CASES as LOSSES
from tests.parity.test_losses import batch as targets_of
from trainer.activations.base import Activation
from trainer.errors import DataError
from trainer.layers import recurrent_fused
from trainer.layers.base import Layer
from trainer.layers.plan import Plan
from trainer.losses.base import Loss
from trainer.train.objective import Goal

Drawn = tuple[dict[str, Any], tuple[int, ...]]
Draw = Callable[[str, int], Drawn]
SEEDS = range(8)


def of_rank(draw: Callable[[int, int], Drawn]) -> Draw:
    """A draw that is given a rank, for a name that ends in one."""
    return lambda name, seed: draw(int(name[-2]), seed)


def with_batch(draw: Draw) -> Draw:
    """A draw whose shape begins with the batch."""

    def drawn(name: str, seed: int) -> Drawn:
        options, shape = draw(name, seed)
        return options, shape[1:]

    return drawn


def pooling(name: str, seed: int) -> Drawn:
    return test_pooling.drawn(int(name[-2]), seed)


def global_pooling(name: str, seed: int) -> Drawn:
    random = np.random.default_rng(seed)
    shape = tuple(int(n) for n in random.integers(2, 6, int(name[-2]) + 1))
    return {"keepdims": bool(seed % 2), "data_format": ["channels_last", "channels_first"][seed // 2 % 2]}, shape


def batch_norm(name: str, seed: int) -> Drawn:
    shape = [(5,), (4, 5), (3, 4, 5), (2, 3, 4, 5)][seed % 4]
    options = {"axis": [-1, 1][seed // 4], "momentum": 0.8, "scale": seed % 3 > 0, "center": seed % 5 > 0}
    return options, shape


def layer_norm(name: str, seed: int) -> Drawn:
    return {"axis": [-1, [-2, -1], 2][seed % 3], "scale": seed % 4 > 0, "center": seed % 5 > 0}, (4, 5)


def plain(*shapes: tuple[int, ...], **options: Any) -> Draw:
    """The same options, and shapes by turns."""
    return lambda name, seed: (options, shapes[seed % len(shapes)])


def activation(name: str, seed: int) -> Drawn:
    names = sorted(overriding(Activation))
    return {"activation": Activation.spellings()[names[seed % len(names)]].recipe_name()}, (3, 5)


def recurrent(name: str, seed: int) -> Drawn:
    options = {"units": 3, "return_sequences": bool(seed % 2), "go_backwards": bool(seed // 2 % 2)}
    options |= {"use_bias": seed != 3}
    options |= {"reset_after": seed < 4} if name == "GRU" else {}
    return options | ({"activation": "relu"} if name == "SimpleRNN" and seed > 4 else {}), (5, 4)


def time_distributed(name: str, seed: int) -> Drawn:
    inner = [{"Dense": {"units": 3, "activation": "relu"}}, {"Conv1D": {"filters": 2, "kernel_size": 2}}]
    return {"layer": inner[seed % 2]}, [(4, 3), (2, 5, 3)][seed % 2]


def bidirectional(name: str, seed: int) -> Drawn:
    inner, merge = ("SimpleRNN", "GRU", "LSTM")[seed % 3], ("concat", "sum")[seed % 2]
    return {"layer": {inner: {"units": 3, "return_sequences": bool(seed // 2 % 2)}}, "merge_mode": merge}, (5, 4)


LAYERS: dict[str, Draw] = {
    "Dense": plain((5,), (3, 5), units=4, activation="tanh"),
    "Activation": activation,
    "Identity": plain((5,)),
    "Flatten": plain((5,), (3, 5), (2, 3, 4)),
    "Reshape": plain((6,), (2, 3), target_shape=[3, 2]),
    "Permute": plain((2, 3, 4), dims=[3, 1, 2]),
    "RepeatVector": plain((5,), n=3),
    **{f"Conv{rank}D": of_rank(test_conv.drawn) for rank in (1, 2, 3)},
    **{f"Conv{rank}DTranspose": lambda name, seed: test_conv_transpose.drawn(int(name[4]), seed) for rank in (1, 2, 3)},
    **dict.fromkeys(test_conv_depthwise.NAMES, test_conv_depthwise.drawn),
    **{f"{kind}Pooling{rank}D": pooling for kind in ("Max", "Average") for rank in (1, 2, 3)},
    **{f"Global{kind}Pooling{rank}D": global_pooling for kind in ("Max", "Average") for rank in (1, 2, 3)},
    **dict.fromkeys(test_borders.NAMES, test_borders.drawn),
    **{f"UpSampling{rank}D": of_rank(test_upsampling.drawn) for rank in (1, 2, 3)},
    **dict.fromkeys(test_activation_layers.NAMES, with_batch(test_activation_layers.drawn)),
    **dict.fromkeys(test_regularization_layers.RANDOM, with_batch(test_regularization_layers.drawn)),
    "Dropout": plain((5,), (3, 5), rate=0.4),
    "BatchNormalization": batch_norm,
    "LayerNormalization": layer_norm,
    **dict.fromkeys(("SimpleRNN", "GRU", "LSTM"), recurrent),
    "TimeDistributed": time_distributed,
    "Bidirectional": bidirectional,
}
"Layers that read one tensor of numbers."
MERGES = ["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"]


def head(name: str, reads: str, seed: int = 0) -> list[dict[str, Any]]:
    return [
        {"Flatten": {"name": f"{name}_flat", "inputs": reads}},
        {"Dense": {"name": name, "inputs": f"{name}_flat", "units": 2}},
    ]


def model(spec: dict[str, Any], shape: tuple[int, ...]) -> list[dict[str, Any]]:
    """A layer that is called twice: on what a layer that learns made, and on what nothing learns from."""
    ((name, options),) = spec.items()
    return [
        {"Dense": {"name": "before", "inputs": "x", "units": shape[-1]}},
        {name: {**options, "name": "held", "inputs": "before"}},
        *head("first", "held"),
        {"held": {"inputs": "x", "name": "again"}},
        *head("second", "again"),
    ]


def hold_layer(spec: dict[str, Any], shape: tuple[int, ...], seed: int) -> None:
    goals = {"first": squared(), "second": squared()}
    ys = [normal(seed + 1, 2), normal(seed + 2, 2)]
    hold(model(spec, shape), {"x": normal(seed, *shape)}, goals, ys)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", sorted(LAYERS))
def test_layers(name: str, frozen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # oneDNN's kernel has its own way back, which is left to autograd.
    monkeypatch.setattr(recurrent_fused, "has_onednn", lambda: False)
    islands = Islands(monkeypatch)
    by_hand = 0
    for seed in SEEDS:
        options, shape = LAYERS[name](name, seed)
        hold_layer({name: {**options, "trainable": not frozen}} if frozen else {name: options}, shape, seed)
        by_hand += name not in islands.found
        islands.found.clear()
    assert by_hand > len(SEEDS) // 2


def turned(spec: dict[str, Any], shape: tuple[int, ...]) -> list[dict[str, Any]]:
    """A layer whose input, and the gradient of whose output, do not lie in a row in memory."""
    ((name, options),) = spec.items()
    made = Layer.parse(spec).build(Plan(), (None, *shape))
    lines: list[dict[str, Any]] = [
        {"Dense": {"name": "before", "inputs": "x", "units": shape[0]}},
        {"Permute": {"dims": list(range(len(shape), 0, -1))}},
        {name: {**options, "name": "held"}},
    ]
    if len(made) > 2:
        lines.append({"Permute": {"dims": list(range(len(made) - 1, 0, -1))}})
    lines.append({"Activation": {"name": "after", "activation": "tanh"}})
    return [*lines, *head("first", "after")]


@pytest.mark.parametrize("name", sorted(set(LAYERS) - {"Embedding"}))
def test_layers_on_turned_axes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrent_fused, "has_onednn", lambda: False)
    for seed in SEEDS:
        options, shape = LAYERS[name](name, seed)
        if len(shape) > 1 and not any(isinstance(n, dict) and "batch" in n for n in options.values()):
            lines, x = turned({name: options}, shape), {"x": normal(seed, *reversed(shape))}
            hold_steps(lines, x, {"first": squared()}, [normal(seed + 1, 2)], None, None, True)


@pytest.mark.parametrize("name", MERGES)
def test_merges(name: str) -> None:
    for seed, count in enumerate([2, 2, 3, 4] if name != "Subtract" else [2]):
        reads = ["x", "left", "right", "x"][-count:]
        lines = [
            *({"Dense": {"name": side, "inputs": "x", "units": 5}} for side in ("left", "right")),
            {name: {"name": "merged", "inputs": reads}},
            {name: {"name": "twice", "inputs": ["merged", "merged"]}},
            *head("first", "twice"),
            *head("second", "left"),
        ]
        goals = {"first": squared(), "second": squared()}
        hold(lines, {"x": normal(seed, 3, 5) / 2}, goals, [normal(seed + 1, 2), normal(seed + 2, 2)])


KEEP_SHAPE: list[dict[str, Any]] = [
    {"Dense": {"units": 6, "activation": "gelu"}},
    {"Conv1D": {"filters": 6, "kernel_size": 3, "padding": "same", "activation": "relu"}},
    {"DepthwiseConv1D": {"kernel_size": 2, "padding": "same"}},
    {"MaxPooling1D": {"pool_size": 2, "strides": 1, "padding": "same"}},
    {"BatchNormalization": {"trainable": False}},
    *({name: {}} for name in ("BatchNormalization", "LayerNormalization", "Identity", "ReLU", "PReLU", "Softmax")),
    *({"Activation": {"activation": name}} for name in ("linear", "tanh", "silu")),
    {"Permute": {"dims": [1, 2]}},
    {"UnitNormalization": {}},
    {"GRU": {"units": 6, "return_sequences": True}},
]
"From (4, 6) to (4, 6), one of them without a gradient of its own."


def drawn_graph(seed: int) -> list[dict[str, Any]]:
    """Layers that read any of those before them; what nobody reads is added up for two heads."""
    random = np.random.default_rng(seed)
    lines: list[dict[str, Any]] = [{"Dense": {"name": "l0", "inputs": "x", "units": 6}}]
    names, read = ["x", "l0"], {"x"}
    for number in range(1, int(random.integers(4, 12))):
        count = 1 if random.random() < 0.6 else int(random.integers(2, 4))
        reads = [str(n) for n in random.choice(names, count)]
        spec = KEEP_SHAPE[int(random.integers(len(KEEP_SHAPE)))]
        if count > 1:
            spec = {str(random.choice(["Add", "Average", "Maximum", "Minimum"])): {}}
        ((kind, options),) = spec.items()
        lines.append({kind: {**options, "name": f"l{number}", "inputs": reads if count > 1 else reads[0]}})
        names.append(f"l{number}")
        read.update(reads)
    loose = [*(n for n in names if n not in read), names[-1]]
    lines.append({"Concatenate": {"name": "all", "inputs": loose}})
    return [*lines, *head("first", "all"), *head("second", "l0")]


@pytest.mark.parametrize("seed", range(60))
def test_drawn_graphs(seed: int) -> None:
    """What one layer overwrites on the way back, no other still needs."""
    goals = {"first": squared(), "second": squared()}
    hold(drawn_graph(seed), {"x": normal(seed, 4, 6)}, goals, [normal(seed + 1, 2), normal(seed + 2, 2)])


def test_penalties_on_weights() -> None:
    lines = [
        {"Dense": {"name": "before", "inputs": "x", "units": 5, "kernel_regularizer": "l2"}},
        {
            "Conv1D": {
                "name": "conv",
                "filters": 3,
                "kernel_size": 2,
                "kernel_regularizer": "l1",
                "bias_regularizer": "l2",
            }
        },
        {"BatchNormalization": {"gamma_regularizer": {"L1L2": {"l1": 0.1, "l2": 0.2}}}},
        *head("first", "batch_normalization"),
    ]
    hold(lines, {"x": normal(0, 3, 5)}, {"first": squared()}, [normal(1, 2)], optimizer="adam", double=False)


def test_ids_beyond_the_vocabulary_are_refused_as_by_autograd() -> None:
    lines = [{"Embedding": {"name": "table", "inputs": "x", "input_dim": 7, "output_dim": 3}}, *head("first", "table")]
    ids = np.full((BATCH, 5), 6)
    by_hand_alone(lines, ids, normal(1, 2), "first")
    ids[-1, 2] = 7
    with pytest.raises(DataError, match=r"expected ids from 0 to 6 .* found 7 in row 3 of the batch, position 2"):
        by_hand_alone(lines, ids, normal(1, 2), "first")


@pytest.mark.parametrize("width", [3, 16, 80])
@pytest.mark.parametrize("kind", ["int32", "int64", "float32"])
def test_embedding(kind: str, width: int) -> None:
    """Vectors of whole sixteens have their way back as compiled code."""
    ids = np.random.default_rng(0).integers(0, 7, (BATCH * STEPS, 5)).astype(kind)
    table = {"name": "table", "inputs": "x", "input_dim": 7, "output_dim": width}
    lines = [{"Embedding": table}, *head("first", "table")]
    lines += [{"table": {"name": "again", "inputs": "x"}}, *head("second", "again")]
    hold(lines, {"x": ids}, {"first": squared(), "second": squared()}, [normal(1, 2), normal(2, 2)])


@pytest.mark.parametrize("kind", ["int64", "float32"])
@pytest.mark.parametrize("dtype", ["float64", "mixed_bfloat16", "bfloat16"])
def test_embedding_between_casts(dtype: str, kind: str) -> None:
    """Of ids that bfloat16 would not tell apart."""
    ids = np.random.default_rng(0).integers(250, 280, (BATCH * STEPS, 5)).astype(kind)
    lines = [
        {"Embedding": {"name": "table", "inputs": "x", "input_dim": 300, "output_dim": 16}},
        *head("first", "table"),
    ]
    hold_typed(lines, {"x": ids}, {"first": squared()}, [normal(1, 2)], dtype)


@pytest.mark.parametrize("name", sorted(overriding(Activation)))
def test_activations(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between layers, in a layer of its own, and as the last one."""
    islands = Islands(monkeypatch)
    spelled = Activation.spellings()[name].recipe_name()
    lines = [
        {"Dense": {"name": "before", "inputs": "x", "units": 6}},
        {"Dense": {"name": "dense", "inputs": "before", "units": 4, "activation": spelled}},
        {"Activation": {"name": "alone", "inputs": "before", "activation": spelled}},
        {"Conv1D": {"name": "conv", "inputs": "before", "filters": 3, "kernel_size": 2, "activation": spelled}},
        *(line for reads in ("dense", "alone", "conv") for line in head(f"of_{reads}", reads)),
        {"Dense": {"name": "last", "inputs": "before", "units": 2, "activation": spelled}},
    ]
    goals = {name: squared() for name in ("of_dense", "of_alone", "of_conv", "last")}
    hold(lines, {"x": normal(4, 3, 5)}, goals, [*(normal(n, 2) for n in (5, 6, 7)), normal(8, 3, 2)])
    assert islands.found == []


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize(("name", "options", "target"), LOSSES)
def test_losses(name: str, options: dict[str, Any], target: str, weighed: bool) -> None:
    last = {"flags": "sigmoid", "one_hot": "softmax", "labels": "softmax", "counts": "exponential"}.get(target)
    if options.get("from_logits") or "Hinge" in name:
        last = None
    for seed, shape in enumerate([(3,), (4, 3)]):
        y, _ = targets_of(target, False, (BATCH * STEPS, *shape), seed)
        weights = np.random.default_rng(seed).uniform(0, 2, BATCH * STEPS).astype("float32")
        lines = [
            {"Dense": {"name": "before", "inputs": "x", "units": 5, "activation": "tanh"}},
            {"Dense": {"name": "scores", "inputs": "before", "units": 3, "activation": last}},
        ]
        goal = Goal(Loss.parse({name: options}), weight=[1.0, 0.3][seed])
        hold(lines, {"x": normal(seed, *shape[:-1], 4)}, {"scores": goal}, [y], [weights if weighed else None])


def test_every_class_that_knows_its_gradient_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    # Masking is in front of those that hear masks.
    assert overriding(Layer) == {*LAYERS, *MERGES, "Embedding", "Masking"}
    known = set()
    for name, options, target in LOSSES:
        islands = Islands(monkeypatch)
        test_losses(name, options, target, False)
        known |= {name} - set(islands.found)
    assert known == overriding(Loss)


@pytest.mark.parametrize("dtype", ["float64", "mixed_bfloat16", "bfloat16"])
@pytest.mark.parametrize("name", sorted(LAYERS))
def test_layers_between_casts(name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a number type of their own layers go the same way, and round where autograd's do."""
    monkeypatch.setattr(recurrent_fused, "has_onednn", lambda: False)
    for seed in SEEDS:
        options, shape = LAYERS[name](name, seed)
        goals, ys = {"first": squared(), "second": squared()}, [normal(seed + 1, 2), normal(seed + 2, 2)]
        hold_typed(model({name: options}, shape), {"x": normal(seed, *shape)}, goals, ys, dtype)


def drawn_mask(name: str, seed: int) -> list[dict[str, Any]]:
    """Layers that hear a mask, by name."""
    sequences = {"units": 3, "return_sequences": bool(seed % 2), "go_backwards": bool(seed // 2 % 2)}
    inner = {"LSTM": {**sequences, "go_backwards": False}}
    options = dict.fromkeys(("LSTM", "GRU", "SimpleRNN"), sequences) | {
        "Bidirectional": {"layer": inner, "merge_mode": ("concat", "sum")[seed // 2 % 2]},
        "TimeDistributed": {"layer": {"Dense": {"units": 3}}},
        "GlobalAveragePooling1D": {
            "keepdims": bool(seed % 2),
            "data_format": ("channels_last", "channels_first")[seed == 5],
        },
    }
    return [{name: {"name": "hears", "inputs": "words", **options[name]}}]


HEARING = {c.__name__ for c in Layer.spellings().values() if c.by_hand_masked is not Layer.by_hand_masked}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", sorted(HEARING))
def test_layers_behind_a_mask(name: str, seed: int) -> None:
    """A mask of another kind in each batch, made of ids or of features."""
    ids = np.random.default_rng(seed).integers(0, 4, (BATCH * STEPS, 5)).astype("int32")
    ids[:, 2] = 1
    table = {"inputs": "x", "input_dim": 4, "output_dim": 5}
    made: list[list[dict[str, Any]]] = [
        [{"Embedding": {"name": "words", **table, "mask_zero": True}}],
        [
            {"Embedding": {"name": "vectors", **table}},
            {"Multiply": {"name": "gated", "inputs": ["vectors", "gates"]}},
            {"Masking": {"name": "words"}},
        ],
        [
            {"Embedding": {"name": "first", **table, "mask_zero": True}},
            {"Embedding": {"name": "second", **table, "mask_zero": True}},
            {"Masking": {"name": "third", "mask_value": 0.5}},
            {"Add": {"name": "words", "inputs": ["first", "third"]}},
        ],
    ]
    lines = [
        *made[seed % 3],
        *drawn_mask(name, seed),
        {"Flatten": {"name": "flat"}},
        {"Dense": {"name": "last", "units": 2}},
    ]
    gates = np.repeat(ids[..., None] > 1, 5, -1).astype("float32")
    gates[:, 1] = 1
    xs = {"x": ids, "gates": gates} if seed % 3 == 1 else {"x": ids}
    hold(lines, xs, {"last": squared()}, [normal(BATCH * STEPS, 2)])
