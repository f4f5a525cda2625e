"""Bidirectional and TimeDistributed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from trainer.activations.base import Activation
from trainer.errors import RecipeError
from trainer.layers.base import Layer, Weights, Words
from trainer.layers.conv_lstm import ConvLSTM
from trainer.layers.given_weights import Arrays, start_from
from trainer.layers.nested import Wrapper, described, inner_name, named
from trainer.layers.plan import Plan
from trainer.layers.recurrent_sequences import Sequenced, first_and_rest, turned
from trainer.lazy import torch
from trainer.options import complaint, raise_all
from trainer.shapes import Shape, text

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program, Pull


class Bidirectional(Wrapper):
    """Reads the sequence from both ends, with weights of their own, and merges what the two make of each step.

    Schuster and Paliwal, 1997. Among `return_sequences`, a masked step's output is zero, as in Keras. With
    `return_state` the states of the forward layer follow, then those of the backward layer; first states are given in
    that order too. https://keras.io/api/layers/recurrent_layers/bidirectional/

    Shape: (batch, time, features) -> (batch, 2 units), or (batch, time, 2 units) when the layer returns sequences
    """

    layer: Layer
    "The recurrent layer that reads forwards; a copy of it reads backwards."
    merge_mode: Literal["sum", "mul", "ave", "concat"] | None = "concat"
    "How the two outputs become one; null keeps both, as a list."
    weights: Arrays | None = None
    "First values of the weights, as nested lists of numbers: the forward layer's, then the backward layer's."
    backward_layer: Layer | None = None
    "A layer of its own for the way back, with `go_backwards` the other way round."

    reads_several = True
    not_keras = (*Wrapper.not_keras, "weights")

    @model_validator(mode="after")
    def _pair(self) -> Self:
        for name in ("layer", "backward_layer"):
            layer = getattr(self, name)
            if layer is not None and not isinstance(layer, Sequenced):
                found = complaint(f"expected a recurrent layer, found {type(layer).__name__}", "such as LSTM or RNN")
                raise_all([(found, (name,))])
        for place, layer in zip(("layer", "backward_layer"), self.pair(), strict=True):
            if isinstance(layer, ConvLSTM) and not layer.trainable:
                words = f"Keras trains a frozen {type(layer).__name__} that stands in another layer"
                hint = "set trainable: false on Bidirectional, which freezes both directions"
                raise_all([(complaint(words, hint), (place if getattr(self, place) is not None else "layer",))])
        forward, backward = self.pair()
        if forward.go_backwards == backward.go_backwards:
            place = "layer" if self.backward_layer is None else "backward_layer"
            message = f"expected two directions, found go_backwards: {forward.go_backwards} in both".lower()
            raise_all([(complaint(message, "leave go_backwards to Bidirectional"), (place,))])
        for option in ("stateful", "return_sequences", "return_state"):
            ours, theirs = getattr(forward, option), getattr(backward, option)
            if ours != theirs:
                message = f"expected {option}: {str(ours).lower()} as in layer, found {str(theirs).lower()}"
                raise_all([(complaint(message), ("backward_layer",))])
        return self

    def pair(self) -> tuple[Sequenced, Sequenced]:
        """The layers that read forwards and backwards, under Keras's names."""
        assert isinstance(self.layer, Sequenced)
        name, zero = inner_name(self.layer), {"zero_output_for_mask": self.layer.return_sequences}
        forward = named(self.layer, f"forward_{name.removeprefix('forward_')}").model_copy(update=zero)
        if self.backward_layer is not None:
            assert isinstance(self.backward_layer, Sequenced)
            zero = {"zero_output_for_mask": self.backward_layer.return_sequences}
            return forward, named(self.backward_layer).model_copy(update=zero)
        back = named(self.layer, f"backward_{name.removeprefix('backward_')}")
        return forward, back.model_copy(update={**zero, "go_backwards": True})

    @property
    def stateful(self) -> bool:
        """Whether both layers are."""
        return self.pair()[0].stateful

    @property
    def activation(self) -> Activation | None:
        """The inner layer's where its outputs stay as they are, for checks of the loss."""
        return super().activation if self.merge_mode in ("concat", None) else Activation.parse(None)

    def keras_config(self) -> dict[str, Any]:
        forward, backward = self.pair()
        made = {
            place: described(layer, inner_name(layer), self)
            for place, layer in (("layer", forward), ("backward_layer", backward))
        }
        return {**super().keras_config(), **made}

    def arguments(self) -> tuple[str, ...]:
        return ("sequences", "initial_state")

    def keras_call(self, tensors: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        return tensors[:1], {"initial_state": tensors[1:]} if len(tensors) > 1 else {}

    def build(self, plan: Plan, shape: Any) -> Any:
        sequence, given = first_and_rest(shape)
        if len(given) % 2:
            raise ValueError(f"expected first states of both directions, found {len(given)} of them")
        half, made = len(given) // 2, []
        for number, layer in enumerate(self.pair()):
            states = given[half * number : half * (number + 1)]
            made.append(plan.child(PLACES[number], layer, [sequence, *states]))
        if self.weights is not None:
            start_from(plan, self.weights)
        outputs, states = zip(*(first_and_rest(m) for m in made), strict=True)
        merged = self._merged_shape(*outputs)
        whole = [*(merged if isinstance(merged, list) else [merged]), *states[0], *states[1]]
        return whole if len(whole) > 1 else whole[0]

    def _merged_shape(self, forward: Shape, backward: Shape) -> Shape | list[Shape]:
        if self.merge_mode is None:
            return [forward, backward]
        if forward != backward:
            sizes = f"{text(forward)} and {text(backward)}"
            raise ValueError(f"merge_mode {self.merge_mode} needs outputs of one shape, found {sizes}")
        last = forward[-1]
        return (*forward[:-1], None if last is None else 2 * last) if self.merge_mode == "concat" else forward

    def forward(self, w: Weights, x: Any, mask: Any = None) -> Any:
        sequence, given = first_and_rest(x)
        half, outputs, states = len(given) // 2, [], []
        for number, inner in enumerate((w.forward_layer, w.backward_layer)):
            made = inner([sequence, *given[half * number : half * (number + 1)]], mask=mask)
            out, last = first_and_rest(made)
            outputs.append(out)
            states += last
        if self.pair()[0].return_sequences:
            outputs[1] = outputs[1].flip(1)
        whole = [*self._merged(*outputs), *states]
        return whole if len(whole) > 1 else whole[0]

    def _merged(self, a: Tensor, b: Tensor) -> list[Tensor]:
        if self.merge_mode == "concat":
            return [torch.cat([a, b], -1)]
        if self.merge_mode == "sum":
            return [a + b]
        if self.merge_mode == "ave":
            return [(a + b) / 2]
        return [a * b] if self.merge_mode == "mul" else [a, b]

    def by_hand(self, p: Program, w: Weights, x: Any) -> tuple[Tensor, Pull] | None:
        """For outputs that are put side by side or added, where both layers say their gradients."""
        if first_and_rest(x)[1]:
            return None
        return self._joined(p, self._untold(w), lambda layer, cell: layer.by_hand(p, cell, x))

    def by_hand_masked(self, p: Program, w: Weights, x: Any, mask: Any) -> tuple[Tensor, Pull] | None:
        if first_and_rest(x)[1]:
            return None
        return self._joined(p, self._untold(w), lambda layer, cell: layer.by_hand_masked(p, cell, x, mask))

    def looked_up_by_hand(self, p: Program, w: Weights, words: Words) -> tuple[Tensor, Pull] | None:
        return self._joined(p, self._told_alike(w), lambda layer, cell: layer.looked_up_by_hand(p, cell, words))

    def looked_up(self, w: Weights, words: Words) -> Any | None:
        made = [layer.looked_up(cell, words) for layer, cell in self._told_alike(w)]
        if len(made) < 2 or made[0] is None or made[1] is None:
            return None
        whole = self._merged(made[0], made[1].flip(1) if self.pair()[0].return_sequences else made[1])
        return whole if len(whole) > 1 else whole[0]

    def words_in(self, w: Weights, dtype: torch.dtype) -> torch.dtype:
        """What both directions say, where putting them side by side rounds nothing."""
        found = {layer.words_in(cell, dtype) for layer, cell in self._told_alike(w)}
        return found.pop() if len(found) == 1 and self.merge_mode == "concat" else dtype

    def _untold(self, w: Weights) -> list[tuple[Layer, Weights]]:
        """Both layers with their weights, but for those that say a number type of their own."""
        found = [(cell.acts, cell) for cell in (w.forward_layer, w.backward_layer)]
        return [(layer, cell) for layer, cell in found if isinstance(layer, Layer)]

    def _told_alike(self, w: Weights) -> list[tuple[Layer, Weights]]:
        """Both layers with their weights, but for those that say another number type than this one."""
        found = [(cell.layer, cell) for cell in (w.forward_layer, w.backward_layer)]
        return [(layer, cell) for layer, cell in found if layer.dtype == self.dtype]

    def _joined(
        self,
        p: Program,
        both: list[tuple[Layer, Weights]],
        each: Callable[[Layer, Weights], tuple[Tensor, Pull] | None],
    ) -> tuple[Tensor, Pull] | None:
        """What `each` adds for a direction, put together."""
        if self.merge_mode not in ("concat", "sum"):
            return None
        found, every = [each(*own) for own in both], self.pair()[0].return_sequences
        if len(found) < 2 or found[0] is None or found[1] is None:
            return None
        (ahead, pull_ahead), (back, pull_back) = found[0], found[1]
        back = turned(p, back) if every else back
        joined = self.merge_mode == "concat"
        made = p.make(torch.cat, [ahead, back], -1) if joined else p.make(torch.add, ahead, back)

        def pull(slope: Tensor, wanted: bool) -> Tensor | None:
            of_ahead, of_back = slope.split(ahead.shape[-1], -1) if joined else (slope, slope.clone())
            if not joined:
                p.do(of_back.copy_, slope)
            of_back = turned(p, of_back) if every else of_back
            slopes = pull_ahead(p.laid(of_ahead), wanted), pull_back(p.laid(of_back), wanted)
            if slopes[0] is not None:
                p.do(slopes[0].add_, slopes[1])
            return slopes[0]

        return made, pull

    def starts_mask(self) -> bool:
        return False

    def compute_mask(self, x: Any, mask: Any) -> Any:
        forward, _ = self.pair()
        goes_on = first_and_rest(mask)[0] if forward.return_sequences else None
        outputs = [goes_on] * (2 if self.merge_mode is None else 1)
        states = [None] * (2 * forward.state_count() if forward.return_state else 0)
        whole = [*outputs, *states]
        return whole if len(whole) > 1 else whole[0]


PLACES = ("forward_layer", "backward_layer")


class TimeDistributed(Wrapper):
    """Applies a layer to every step of a sequence, with the same weights.

    https://keras.io/api/layers/recurrent_layers/time_distributed/

    Shape: (batch, time, ...) -> (batch, time, what the layer makes of a step)
    """

    @property
    def stateful(self) -> bool:
        """Whether the inner layer keeps a state, which then goes on from step to step."""
        return getattr(self.layer, "stateful", False)

    def build(self, plan: Plan, shape: Shape) -> Shape:
        if len(shape) < 3:
            raise ValueError(f"expected input of shape (batch, time, ...) with three axes or more, found {text(shape)}")
        out = plan.child("inner", named(self.layer), (shape[0], *shape[2:]))
        if isinstance(out, list):
            raise ValueError(f"expected a layer that gives one tensor, found {len(out)} of {type(self.layer).__name__}")
        return (out[0], shape[1], *out[1:])

    def forward(self, w: Weights, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """
        Raises:
            RecipeError: the mask is not one of the input's rows and steps.
        """
        if mask is not None and mask.shape[:2] != x.shape[:2]:
            found = f"{list(mask.shape)} for an input of {list(x.shape)}"
            raise RecipeError(f"TimeDistributed: expected a mask of shape (batch, time, ...), found {found}")
        mask = mask if self.layer.takes_mask else None
        if self._rows_stand_alone(w):
            made = self._apply(w, x.flatten(0, 1), None if mask is None else mask.flatten(0, 1))
            return made.unflatten(0, x.shape[:2])
        return torch.stack(
            [self._apply(w, x[:, t], None if mask is None else mask[:, t]) for t in range(x.shape[1])], 1
        )

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull] | None:
        inner = w.own.inner
        found = inner.acts.by_hand(p, inner, p.laid(x).flatten(0, 1)) if self._rows_stand_alone(w) else None
        if found is None:
            return None
        made, back = found

        def pull(slope: Tensor, wanted: bool) -> Tensor | None:
            rows = back(p.laid(slope).flatten(0, 1), wanted)
            return None if rows is None else p.laid(rows).unflatten(0, x.shape[:2])

        return p.laid(made).unflatten(0, x.shape[:2]), pull

    def by_hand_masked(self, p: Program, w: Weights, x: Tensor, mask: Tensor) -> tuple[Tensor, Pull] | None:
        """For layers that hear no mask; `forward` refuses one that does not fit."""
        return None if self.layer.takes_mask or mask.shape[:2] != x.shape[:2] else self.by_hand(p, w, x)

    def _apply(self, w: Weights, x: Tensor, mask: Tensor | None) -> Tensor:
        # Not through the cell: Keras leaves penalties on what an inner layer makes out of the loss here.
        masked = {} if mask is None else {"mask": mask}
        inner = w.own.inner
        return inner.acts.forward(inner, x, **masked)

    def _rows_stand_alone(self, w: Weights) -> bool:
        """Whether all steps may go through the layer as rows of one batch: no row's output depends on another's.

        In training, layers that keep statistics see one step after the other, as in Keras.
        """
        axis = getattr(self.layer, "axis", None)
        if self.stateful or axis == 0 or (isinstance(axis, tuple) and 0 in axis) or _across_rows(self.layer):
            return False
        if not w.training:
            return True
        keeps = any(True for _ in w.inner.buffers())
        return not keeps and getattr(self.layer, "noise_shape", None) is None


def _across_rows(layer: Layer) -> bool:
    """Whether the layer, or one that it holds, looks at a batch as a whole or draws for it as a whole."""
    return layer.across_rows or layer.draws or any(map(_across_rows, layer.held()))
