"""What attention in several heads shares: its options, projections, masks and torch's kernel."""

from __future__ import annotations

import contextlib
import string
from typing import TYPE_CHECKING, Any, Self

from pydantic import model_validator

from trainer.activations.base import Activation
from trainer.activations.elementwise import Linear, Sigmoid
from trainer.constraints.base import Constraint
from trainer.errors import RecipeError
from trainer.initializers.base import Initializer
from trainer.initializers.constant import Zeros
from trainer.initializers.variance import GlorotUniform
from trainer.layers.attention import Attending, Masks, causal
from trainer.layers.base import Weights
from trainer.layers.einsum_dense import EinsumDense
from trainer.layers.plan import Plan
from trainer.lazy import F, torch
from trainer.options import Bool, Fraction, Int, PositiveInt, complaint, raise_all
from trainer.regularizers.base import Regularizer
from trainer.shapes import Shape, text

if TYPE_CHECKING:
    from torch import Tensor


def _letters(rank: int, summed: int, made: int) -> tuple[str, str]:
    """(equation, letters of the made axes): the last `summed` axes of the input become `made` others."""
    names = string.ascii_lowercase
    free, bound = names[:rank], names[rank : rank + summed]
    new = names[rank + summed : rank + summed + made]
    return f"{free}{bound},{bound}{new}->{free}{new}", new


class Heads(Attending, abstract=True):
    """Attention in several heads at once, each with projections of its own (Vaswani et al., 2017)."""

    dropout: Fraction = 0.0
    "Share of the weights of values that training drops."
    use_bias: Bool = True
    "Whether the projections have a bias."
    sliding_window: PositiveInt | None = None
    "A step sees those less than this many steps away; all of them when null."
    flash_attention: Bool | None = None
    "True: only torch's flash kernel, or an error where it can't run; false or null: what torch finds fastest."
    kernel_initializer: Initializer = GlorotUniform()
    "First values of the kernels."
    bias_initializer: Initializer = Zeros()
    "First values of the biases."
    kernel_regularizer: Regularizer | None = None
    "Penalty on each kernel."
    bias_regularizer: Regularizer | None = None
    "Penalty on each bias."
    activity_regularizer: Regularizer | None = None
    "Penalty on what each projection makes."
    kernel_constraint: Constraint | None = None
    "Projection of each kernel after each update."
    bias_constraint: Constraint | None = None
    "Projection of each bias after each update."
    use_gate: Bool = False
    "Whether a sigmoid of the query opens or closes each head's features."
    seed: Int | None = None
    "Seed of the dropout alone; by default it follows from the recipe's seed and the layer."

    def keras_call(self, tensors: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        causal = {"use_causal_mask": True} if self.use_causal_mask else {}
        return tensors[:2], {**({"key": tensors[2]} if len(tensors) > 2 else {}), **causal}

    supports_masking = True
    # What only one of the layers has stands before or among the options of all.
    keras_order = (
        "... dropout use_bias output_shape attention_axes sliding_window flash_attention kernel_initializer "
        "bias_initializer kernel_regularizer bias_regularizer activity_regularizer kernel_constraint bias_constraint "
        "use_gate seed use_causal_mask"
    )

    @model_validator(mode="after")
    def _flash_drops_nothing(self) -> Self:
        if self.flash_attention and self.dropout > 0:
            words = f"flash_attention: true needs dropout: 0.0, found {self.dropout}"
            raise_all([(complaint(words, "leave flash_attention out: torch finds the fastest"), ("flash_attention",))])
        return self

    def projection(
        self, rank: int, summed: int, sizes: tuple[int, ...], name: str, activation: Activation | None = None
    ) -> EinsumDense:
        """A layer that turns the last `summed` axes of an input, after `rank` others, into axes of `sizes`."""
        equation, made = _letters(rank, summed, len(sizes))
        return EinsumDense(
            name=name,
            equation=equation,
            output_shape=(None,) * (rank - 1) + sizes,
            activation=activation or Linear(),
            bias_axes=made if self.use_bias else None,
            kernel_initializer=self.kernel_initializer,
            bias_initializer=self.bias_initializer,
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            activity_regularizer=self.activity_regularizer,
            kernel_constraint=self.kernel_constraint,
            bias_constraint=self.bias_constraint,
        )

    def heads(self, plan: Plan, shapes: list[Shape], sizes: list[tuple[int, int]]) -> None:
        """Ask for the projections of query, key, gate and value into (heads, features) each, in Keras's order."""
        query, value, key = shapes[0], shapes[1], shapes[2 if len(shapes) > 2 else 1]
        if value[1:-1] != key[1:-1]:
            raise ValueError(f"expected as many steps in value and key, found {text(value)} and {text(key)}")
        names = ("query", "key", "gate", "value")
        for name, shape, size in zip(names, (query, key, query, value), sizes, strict=True):
            if name != "gate" or self.use_gate:
                activation = Sigmoid() if name == "gate" else None
                plan.child(name, self.projection(len(shape) - 1, 1, size, name, activation), shape)

    def seen(self, x: list[Tensor], mask: Masks | None) -> Tensor | None:
        """(batch, queries, keys): whether a query may look at a key; None when it always may."""
        masks = [*(mask or ()), None, None, None][:3]
        parts = [None if m is None else m.unsqueeze(-1 if i == 0 else -2) for i, m in enumerate(masks)]
        queries, keys = x[0].shape[1], x[1].shape[1]
        if self.use_causal_mask:
            parts.append(causal(queries, keys, x[0]))
        if self.sliding_window is not None:
            steps = torch.arange(max(queries, keys), device=x[0].device)
            distance = steps[:queries, None] - steps[None, :keys]
            parts.append((distance.abs() < self.sliding_window).unsqueeze(0))
        seen = None
        for part in parts:
            if part is not None:
                seen = part if seen is None else seen & part
        return seen

    def only_causal(self, mask: Masks | None) -> bool:
        """Whether the future is all that is masked, which torch's kernel does by itself."""
        masked = any(m is not None for m in mask or ())
        return self.use_causal_mask and self.sliding_window is None and not masked

    def fused(self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, only_causal: bool) -> Tensor:
        """torch's kernel over (batch, time, heads, features).

        Where a query sees nothing it looks at all values alike, as in Keras: the mask is added, not multiplied.
        """
        # einsum leaves strides in heads of one feature that keep torch from its flash kernel.
        laid = (t if t.stride(-1) == 1 else t.clone(memory_format=torch.contiguous_format) for t in (query, key, value))
        q, k, v = (t.transpose(1, 2) for t in laid)
        bias = None
        if seen is not None and not only_causal:
            least = 0.7 * (65500.0 if q.dtype == torch.float16 else 3.38953e38)
            bias = torch.zeros(seen.shape, dtype=q.dtype, device=q.device).masked_fill_(~seen, -least).unsqueeze(1)
        with self._kernel():
            try:
                out = F.scaled_dot_product_attention(
                    q, k, v, attn_mask=bias, is_causal=only_causal, scale=query.shape[-1] ** -0.5
                )
            except RuntimeError as error:
                if not self.flash_attention:
                    raise
                raise self._no_flash(error) from error
        return out.transpose(1, 2)

    def _kernel(self) -> contextlib.AbstractContextManager[Any]:
        if not self.flash_attention:
            return contextlib.nullcontext()
        from torch.nn.attention import SDPBackend, sdpa_kernel

        return sdpa_kernel([SDPBackend.FLASH_ATTENTION])

    def _no_flash(self, error: RuntimeError) -> RecipeError:
        return RecipeError(
            f"{type(self).__name__}: torch's flash kernel can't take this input here ({str(error).splitlines()[0]})",
            hint="leave flash_attention out: torch finds the fastest",
        )

    def gated(self, w: Weights, query: Tensor, out: Tensor) -> Tensor:
        """The heads' features, through the gate when there is one, in the output's projection."""
        return w.attention_output(out * w.gate(query) if self.use_gate else out)

    def starts_mask(self) -> bool:
        return False

    def compute_mask(self, x: Any, mask: Masks | None) -> Any:
        """The query's."""
        return mask[0] if mask else None
