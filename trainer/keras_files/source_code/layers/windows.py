"""Convolutions and poolings: torch's own, between two moves of the channels where these stand last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from trainer.keras_files.source_code.layers.functions import through
from trainer.keras_files.source_code.piece import Given, NoSource, Piece, Spot, given_only, says, under
from trainer.keras_files.source_code.text import call, literal, one_or_all
from trainer.layers.conv import Conv
from trainer.layers.conv_depthwise import Depthwise, SeparableConv
from trainer.layers.conv_transpose import ConvTranspose
from trainer.layers.pooling import MaxPooling, Pooling
from trainer.layers.pooling_adaptive import AdaptiveMaxPooling, AdaptivePooling
from trainer.layers.pooling_global import GlobalAveragePooling1D, GlobalMaxPooling, GlobalPooling
from trainer.layers.spatial import split_axes
from trainer.layers.windows import torch_kernel
from trainer.shapes import Shape, same_padding

PLACE = "layer"
"What `ChannelsLast` calls what it holds."


def channels_last(layer: Any, module: str) -> str:
    """The module for tensors as the layer has them."""
    return module if layer.channels_at() == "channels_first" else f"ChannelsLast({module})"


def held(layer: Any, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by their names in what `channels_last` makes."""
    return weights if layer.channels_at() == "channels_first" else under(PLACE, weights)


def in_row(first: str | None, module: str, weights: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """One module behind another, when there is one."""
    return (module, weights) if first is None else (f"nn.Sequential({first}, {module})", under("1", weights))


def sizes_of(spot: Spot) -> Shape:
    """The spatial sizes of the input."""
    return split_axes(spot.shape, spot.layer.rank, spot.layer.channels_at())[0]


def ends(spot: Spot, window: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> Any:
    """(before, after) of each axis for `same`; None where it depends on sizes that are not known."""
    found = []
    for n, k, s, d in zip(sizes_of(spot), window, strides, dilation, strict=True):
        if n is None and s > 1:
            return None
        found.append(same_padding(n or 1 << 20, k, s, d))
    return found


def padding(rank: int, sides: Sequence[tuple[int, int]], value: float = 0.0) -> str:
    """A module that fills up both ends of each axis, by negative numbers cuts them."""
    flat = tuple(n for pair in reversed(sides) for n in pair)
    if value:
        return call(f"nn.ConstantPad{rank}d", literal(flat), literal(value))
    return call(f"nn.ZeroPad{rank}d", literal(flat))


def filled(spot: Spot, window: Sequence[int], strides: Sequence[int], dilation: Sequence[int], value: float = 0.0):
    """(a module that fills up before a window slides, what the sliding module is told of padding itself)."""
    layer, rank = spot.layer, spot.layer.rank
    if layer.padding == "valid":
        return None, None
    if layer.padding == "causal":
        return padding(1, [(dilation[0] * (window[0] - 1), 0)]), None
    sides = ends(spot, window, strides, dilation)
    if sides is None:
        options = {"dilation": None if set(dilation) == {1} else literal(tuple(dilation))}
        fill = None if not value else literal(value)
        return call("SamePadding", literal(tuple(window)), literal(tuple(strides)), **options, value=fill), None
    if all(before == after for before, after in sides):
        total = tuple(before for before, _ in sides)
        return None, one_or_all(total) if any(total) else None
    return padding(rank, sides, value), None


def _unless_one(values: tuple[int, ...]) -> str | None:
    return None if set(values) == {1} else one_or_all(values)


def _sliding(spot: Spot, inputs: int, filters: int, groups: int, bias: bool) -> tuple[str | None, str]:
    """(what comes before it, torch's convolution)."""
    layer = spot.layer
    first, around = filled(spot, layer.kernel_size, layer.strides, layer.dilation_rate)
    options = {
        "stride": _unless_one(layer.strides),
        "padding": around,
        "dilation": _unless_one(layer.dilation_rate),
        "groups": None if groups == 1 else literal(groups),
        "bias": None if bias else "False",
    }
    sizes = literal(inputs), literal(filters), one_or_all(layer.kernel_size)
    return first, call(f"nn.Conv{layer.rank}d", *sizes, **options)


def _turned(kernel: Tensor, rank: int) -> Tensor:
    """A kernel as torch has it."""
    found = torch_kernel(kernel, rank)
    return found.squeeze(2) if rank == 1 else found


@says(Conv)
def convolution(spot: Spot) -> Piece:
    layer, w = spot.layer, spot.w
    inputs = w.kernel.shape[-2] * layer.groups
    weights = given_only(weight=_turned(w.kernel, layer.rank), bias=w.bias)
    first, module = _sliding(spot, inputs, layer.filters, layer.groups, w.bias is not None)
    module, weights = in_row(first, module, weights)
    return Piece(through(layer), channels_last(layer, module), held(layer, weights))


def _apart(kernel: Tensor, rank: int) -> Tensor:
    """A depthwise kernel (window, channels, multiplier) as torch has it."""
    return _turned(kernel.flatten(-2).unsqueeze(-2), rank)


@says(Depthwise)
def depthwise(spot: Spot) -> Piece:
    layer, w = spot.layer, spot.w
    channels, times = w.kernel.shape[-2:]
    weights = given_only(weight=_apart(w.kernel, layer.rank), bias=w.bias)
    first, module = _sliding(spot, channels, channels * times, channels, w.bias is not None)
    module, weights = in_row(first, module, weights)
    return Piece(through(layer), channels_last(layer, module), held(layer, weights))


@says(SeparableConv)
def separable(spot: Spot) -> Piece:
    layer, w = spot.layer, spot.w
    channels, times = w.depthwise_kernel.shape[-2:]
    first, apart = _sliding(spot, channels, channels * times, channels, False)
    bias = None if layer.use_bias else "False"
    mixed = call(f"nn.Conv{layer.rank}d", literal(channels * times), literal(layer.filters), "1", bias=bias)
    module = f"nn.Sequential({', '.join(m for m in (first, apart, mixed) if m)})"
    place = 0 if first is None else 1
    weights = {
        **under(str(place), {"weight": _apart(w.depthwise_kernel, layer.rank)}),
        **under(str(place + 1), given_only(weight=_turned(w.pointwise_kernel, layer.rank), bias=w.bias)),
    }
    return Piece(through(layer), channels_last(layer, module), held(layer, weights))


@says(ConvTranspose)
def transposed(spot: Spot) -> Piece:
    layer, w = spot.layer, spot.w
    cut = layer.ends()
    zeros = tuple(before for before, _ in cut)
    longer = tuple(max(before - after, 0) for before, after in cut)
    spare = [max(after - before, 0) for before, after in cut]
    options = {
        "stride": _unless_one(layer.strides),
        "padding": one_or_all(zeros) if any(zeros) else None,
        "output_padding": one_or_all(longer) if any(longer) else None,
        "bias": None if w.bias is not None else "False",
        "dilation": _unless_one(layer.dilation_rate),
    }
    sizes = literal(w.kernel.shape[-1]), literal(layer.filters), one_or_all(layer.kernel_size)
    module = call(f"nn.ConvTranspose{layer.rank}d", *sizes, **options)
    weights = given_only(weight=_turned(w.kernel, layer.rank), bias=w.bias)
    if any(spare):
        module = f"nn.Sequential({module}, {padding(layer.rank, [(0, -n) for n in spare])})"
        weights = under("0", weights)
    return Piece(through(layer), channels_last(layer, module), held(layer, weights))


@says(Pooling)
def pooling(spot: Spot) -> Piece:
    layer, largest = spot.layer, isinstance(spot.layer, MaxPooling)
    window, steps = layer.pool_size, layer.steps
    first, around = filled(spot, window, steps, (1,) * layer.rank, float("-inf") if largest else 0.0)
    options = {"padding": around, "count_include_pad": "False" if around and not largest else None}
    stride = None if steps == window else one_or_all(steps)
    kind = f"nn.{'Max' if largest else 'Avg'}Pool{layer.rank}d"
    module = call(kind, one_or_all(window), stride, **options)
    if first is not None:
        module = f"nn.Sequential({first}, {module})" if largest else f"MeanInside({first}, {module})"
    return Piece(Given.module_of, channels_last(layer, module))


@says(AdaptivePooling)
def adaptive_pooling(spot: Spot) -> Piece:
    layer = spot.layer
    kind = "Max" if isinstance(layer, AdaptiveMaxPooling) else "Avg"
    module = call(f"nn.Adaptive{kind}Pool{layer.rank}d", one_or_all(layer.output_size))
    return Piece(Given.module_of, channels_last(layer, module))


@says(GlobalPooling)
def global_pooling(spot: Spot) -> Piece:
    layer = spot.layer
    what = "amax" if isinstance(layer, GlobalMaxPooling) else "mean"
    axes = literal(layer.pooled[0] if len(layer.pooled) == 1 else layer.pooled)
    keep = "True" if layer.keepdims else None
    if spot.masked and isinstance(layer, GlobalAveragePooling1D):
        if layer.data_format == "channels_first":
            raise NoSource("a mask for channels_first is not written here yet")
        return Piece(lambda given: call("mean_of_steps", given.x, given.mask, keepdim=keep))
    return Piece(lambda given: call(f"{given.x}.{what}", axes, keepdim=keep))
