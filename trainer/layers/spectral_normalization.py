"""SpectralNormalization."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trainer.activations.base import Activation
from trainer.initializers.random import TruncatedNormal
from trainer.layers.base import Layer, Weights
from trainer.layers.plan import Plan
from trainer.lazy import torch
from trainer.naming import snake_case
from trainer.options import PositiveInt
from trainer.regularizers.base import Regularizer
from trainer.shapes import Shape

if TYPE_CHECKING:
    from torch import Tensor

_LEAST_NORM = 1e-7
"Keras's backend epsilon: no vector is divided by less."


class SpectralNormalization(Layer):
    """A layer whose kernel is divided by its largest singular value before each training step (Miyato et al., 2018).

    The value is estimated by power iteration: v = unit(u kernel^T), u = unit(v kernel), sigma = v kernel u^T, from the
    last step's u. The divided kernel takes the kernel's place, as in Keras; prediction changes nothing.
    https://arxiv.org/abs/1802.05957, https://keras.io/api/layers/normalization_layers/spectral_normalization/

    Shape: (batch, ...) -> what the inner layer makes of it
    """

    layer: Layer
    "The layer whose `kernel` (or `embeddings`) is normalized."
    power_iterations: PositiveInt = 1
    "Turns of the power iteration at each training step."

    takes_mask = rewrites = True

    @property
    def activation(self) -> Activation | None:
        """The inner layer's, for checks of the loss."""
        return getattr(self.layer, "activation", None)

    @property
    def activity_regularizer(self) -> Regularizer | None:
        """The inner layer's: the output is its output."""
        return getattr(self.layer, "activity_regularizer", None)

    def _inner_name(self) -> str:
        return self.layer.name or snake_case(type(self.layer).__name__)

    def keras_config(self) -> dict[str, Any]:
        """Keras's, with a name for the inner layer, which stands in the paths of its weights."""
        config = super().keras_config()
        config["layer"]["config"]["name"] = self._inner_name()
        return config

    def build(self, plan: Plan, shape: Shape) -> Shape:
        inner = Plan()
        out = self.layer.build(inner, shape)
        own = {spec.name: spec for spec in inner.weights if not spec.group}
        kernel = own.get("kernel") or own.get("embeddings")
        if kernel is None:
            raise ValueError(f"expected a layer with a kernel or embeddings, found {type(self.layer).__name__}")
        # In one plan, since Keras lists the kernel, then vector_u, then the rest when the layer is frozen.
        others = [spec for spec in inner.weights if spec is not kernel]
        for spec in (kernel, *others):
            group = "/".join(part for part in (self._inner_name(), spec.group) if part)
            plan.weights.append(replace(spec, group=group, trainable=spec.trainable and self.layer.trainable))
        start = TruncatedNormal(stddev=0.02)
        plan.weight("vector_u", (1, kernel.shape[-1]), start, trainable=False)
        plan.weights.insert(1, plan.weights.pop())
        plan.children.update(inner.children)
        plan.absent += inner.absent
        return out

    def forward(self, w: Weights, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if w.training:
            self._divide(w.own)
        masked = {"mask": mask} if self.layer.takes_mask else {}
        return self.layer.forward(w, x, **masked)

    def _divide(self, w: Weights) -> None:
        kernel = getattr(w, "kernel", None)
        kernel = w.embeddings if kernel is None else kernel
        with torch.no_grad():
            matrix = kernel.reshape(-1, kernel.shape[-1])
            u = w.vector_u
            for _ in range(self.power_iterations):
                v = _unit(u @ matrix.T)
                u = _unit(v @ matrix)
            sigma = v @ matrix @ u.T
            # Nothing is divided as long as the kernel is zero; asking for that in Python would wait for a GPU.
            empty = (kernel == 0).all()
            w.vector_u.copy_(torch.where(empty, w.vector_u, u))
            kernel.copy_(torch.where(empty, kernel, kernel / sigma))

    def starts_mask(self) -> bool:
        return self.layer.starts_mask()

    def compute_mask(self, x: Any, mask: Any) -> Any:
        return self.layer.compute_mask(x, mask)


def _unit(x: Tensor) -> Tensor:
    return x / torch.linalg.vector_norm(x).clamp_min(_LEAST_NORM)
