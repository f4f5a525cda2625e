"""EinsumDense against Keras: equations, biases, first values of the kernel."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
import pytest
from keras.src.initializers.random_initializers import compute_fans
from keras.src.layers.core import einsum_dense
from pydantic import ValidationError

from tests.parity.configs import hold_config
from tests.parity.harness import cell_of, hold_layer, twin_of
from trainer.block import problems_of
from trainer.initializers.variance import Scaling
from trainer.layers.base import Layer
from trainer.layers.plan import Plan

ACTIVATIONS = ["linear", "relu", "tanh", "softmax"]


def drawn(seed: int) -> tuple[dict[str, Any], tuple[int, ...]]:
    """(options, input shape): a kernel over some of the input's axes, making some of the output's."""
    random = np.random.default_rng([3, seed])
    dots = str(random.choice(["", "left", "right"]))
    rank = int(random.integers(2, 5))
    letters = list(random.permutation(list(string.ascii_letters)))
    inputs, made = "".join(letters[:rank]), "".join(letters[rank : rank + int(random.integers(0, 3))])
    size = {letter: int(random.integers(2, 5)) for letter in inputs + made}
    first = 0 if dots == "left" else 1
    summed = [c for c in inputs[first:] if random.random() < 0.5] or [inputs[-1]]
    shared = [c for c in inputs[first:] if c not in summed and random.random() < 0.3]
    kernel = "".join(random.permutation([*summed, *shared, *made]))
    output = [c for c in inputs if c not in summed]
    for letter in made:
        output.insert(int(random.integers(first, len(output) + 1)), letter)
    if not output:
        output, made, kernel = [letters[-1]], letters[-1], kernel + letters[-1]
        size[letters[-1]] = 3
    body = "".join(output)
    left, right = ("..." if dots == side else "" for side in ("left", "right"))
    equation = f"{left}{inputs}{right},{kernel}->{left}{body}{right}"
    more = tuple(int(n) for n in random.integers(2, 4, int(random.integers(0, 3)))) if dots == "right" else ()
    free = (5, *(3,) * int(random.integers(0, 2))) if dots == "left" else ()
    shape = (*free, *(size[c] for c in inputs), *more) if dots == "left" else (5, *(size[c] for c in inputs[1:]), *more)
    axes = [c for c in output[first:] if random.random() < 0.6]
    given = [
        None if c in inputs and c not in kernel and c not in axes and random.random() < 0.6 else size[c]
        for c in output[first:]
    ]
    options = {
        "equation": equation,
        "output_shape": given[0] if len(given) == 1 and given[0] and random.random() < 0.5 else given,
        "activation": str(random.choice(ACTIVATIONS)),
    }
    if axes:
        options["bias_axes"] = "".join(random.permutation(axes))
    return options, shape


@pytest.mark.parametrize("seed", range(100))
def test_equals_keras(seed: int) -> None:
    options, shape = drawn(seed)
    x = np.random.default_rng(seed).normal(size=shape).astype("float32")
    mask = np.ones(shape[:2], bool) if len(shape) == 3 else None
    hold_layer({"EinsumDense": options}, x, mask=mask, seed=seed)


def test_the_draw_reaches_every_corner() -> None:
    found = [drawn(seed) for seed in range(100)]
    assert {"..." in o["equation"] for o, _ in found} == {True, False}
    assert (
        len({(o["equation"].startswith("..."), o["equation"].endswith("..."), "bias_axes" in o) for o, _ in found}) == 6
    )
    assert {len(s) for _, s in found} >= {2, 3, 4, 5}


EQUATIONS = [
    ("ab,bc->ac", 7, (4,)),
    ("abc,cde->abde", [None, 3, 5], (6, 4)),
    ("abcd,cde->abe", [None, 9], (6, 3, 5)),
    ("...x,xy->...y", 7, (6, 4)),
    ("abc,bd->adc", [8, 4], (6, 4)),
    ("ab,b->ab", 6, (6,)),
]


@pytest.mark.parametrize(("equation", "output_shape", "shape"), EQUATIONS)
@pytest.mark.parametrize("name", ["GlorotUniform", "HeNormal", "VarianceScaling"])
def test_first_values_have_keras_s_spread(equation: str, output_shape: Any, shape: tuple[int, ...], name: str) -> None:
    """Variance scaling knows inputs from outputs: both sides count the same fans."""
    spec = {"EinsumDense": {"equation": equation, "output_shape": output_shape, "kernel_initializer": name}}
    cell, _ = cell_of(spec, (None, *shape))
    twin = twin_of(cell.layer, (None, *shape))
    told = cell.specs[0].initializer
    assert isinstance(told, Scaling)
    kernel = tuple(twin.kernel.shape)
    start = twin._update_kernel_initializer(*keras_axes(equation, shape, output_shape))
    assert told.fans(kernel) == compute_fans(kernel, start.input_axes, start.output_axes)


def keras_axes(equation: str, shape: tuple[int, ...], output_shape: Any) -> tuple[list[int], list[int]]:
    return einsum_dense._analyze_einsum_string(equation, None, (None, *shape), output_shape)[3:]


CONFIGS = [
    {"EinsumDense": {"equation": "ab,bc->ac", "output_shape": 3}},
    {
        "EinsumDense": {
            "equation": "abc,cd->abd",
            "output_shape": [None, 4],
            "activation": "relu",
            "bias_axes": "d",
            "kernel_initializer": {"HeNormal": {"seed": 3}},
            "bias_initializer": "Ones",
            "kernel_regularizer": {"L2": {"l2": 0.1}},
            "bias_regularizer": {"L1": {"l1": 0.25}},
            "activity_regularizer": {"L1": {"l1": 0.5}},
            "kernel_constraint": "NonNeg",
            "bias_constraint": "UnitNorm",
            "name": "e.a",
            "trainable": False,
        }
    },
]


@pytest.mark.parametrize("spec", CONFIGS, ids=str)
def test_config(spec: Any) -> None:
    hold_config(spec, "quantization_config")


REFUSED = [
    ("ab,bc->ac", [3], None, (None, 4, 5), "axes of ab,bc->ac"),
    ("abc,cd->abd", [3], None, (None, 4, 5), "output_shape needs 2 sizes"),
    ("abc,cd->abd", [9, 3], None, (None, 4, 5), "axis b has size 4, but output_shape says 9"),
    ("ab,bc->ad", [3], None, (None, 4), "axis d of ab,bc->ad is in neither input nor kernel"),
    ("ab,bdc->ac", [3], None, (None, 4), "axis d of ab,bdc->ac is in neither input nor output"),
    ("ab,bc->ac", [None], None, (None, 4), "kernel's axis c of ab,bc->ac needs a size in output_shape"),
    ("ab,bc->ac", [3], None, (None, None), "kernel's axis b of ab,bc->ac needs a size in the input"),
    ("abc,cd->abd", [None, 3], "b", (None, 4, 5), "bias's axis b of abc,cd->abd needs a size in output_shape"),
    ("abc,cd->abd", [None, 3], "c", (None, 4, 5), "axes of the output, found c"),
]


@pytest.mark.parametrize(("equation", "output_shape", "bias_axes", "shape", "words"), REFUSED)
def test_refuses_input(equation: str, output_shape: Any, bias_axes: Any, shape: Any, words: str) -> None:
    spec = {"EinsumDense": {"equation": equation, "output_shape": output_shape, "bias_axes": bias_axes}}
    with pytest.raises(ValueError, match=words):
        Layer.parse(spec).build(Plan(), shape)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("equation", "ab,bc"), ("equation", "ab->ab"), ("equation", "...ab,bc->ac"), ("equation", "a...,ab->b..."),
        ("equation", "aab,bc->ac"), ("equation", 3), ("output_shape", [0]), ("output_shape", "three"),
        ("bias_axes", ""), ("bias_axes", "1"), ("activation", "glu"),
    ],
)  # fmt: skip
def test_refuses_options(option: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse({"EinsumDense": {"equation": "ab,bc->ac", "output_shape": 3, option: value}})
    assert problems_of(caught.value)[0].path == ("EinsumDense", option)
