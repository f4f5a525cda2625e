"""Activations that act on each element alone.

Formulas and defaults are those of https://keras.io/api/layers/activations/; Keras's `threshold` has no defaults, so
no name alone could stand for it.
"""

from __future__ import annotations

from trainer.activations.base import Activation
from trainer.lazy import F, torch


class Linear(Activation):
    """x"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Relu(Activation):
    """max(x, 0)"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x)


class Relu6(Activation):
    """min(max(x, 0), 6)"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu6(x)


class LeakyRelu(Activation):
    """x where x > 0, else 0.2 x"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(x, 0.2)


class Elu(Activation):
    """x where x > 0, else exp(x) - 1 (Clevert et al., 2016, https://arxiv.org/abs/1511.07289)"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.elu(x)


class Celu(Activation):
    """max(x, 0) + min(exp(x) - 1, 0) (Barron, 2017, https://arxiv.org/abs/1704.07483)"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.celu(x)


class Selu(Activation):
    """1.0507 elu(x) with 1.6733 in place of 1 below zero: keeps mean 0 and variance 1 from layer to layer.

    Goes with `lecun_normal` (Klambauer et al., 2017, https://arxiv.org/abs/1706.02515).
    """

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.selu(x)


class Gelu(Activation):
    """x P(X <= x) with X standard normal, exact (Hendrycks and Gimpel, 2016, https://arxiv.org/abs/1606.08415)"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.gelu(x)


class Silu(Activation):
    """x sigmoid(x) (Ramachandran et al., 2017, https://arxiv.org/abs/1710.05941)"""

    aliases = ("swish",)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.silu(x)


class HardSilu(Activation):
    """x hard_sigmoid(x) (Howard et al., 2019, https://arxiv.org/abs/1905.02244)"""

    aliases = ("hard_swish",)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.hardswish(x)


class Mish(Activation):
    """x tanh(softplus(x)) (Misra, 2019, https://arxiv.org/abs/1908.08681)"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.mish(x)


class Sigmoid(Activation):
    """1 / (1 + exp(-x))"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(x)


class LogSigmoid(Activation):
    """log(1 / (1 + exp(-x)))"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.logsigmoid(x)


class HardSigmoid(Activation):
    """x / 6 + 1/2, kept within 0 and 1"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.hardsigmoid(x)


class SparseSigmoid(Activation):
    """(x + 1) / 2, kept within 0 and 1 (Blondel et al., 2019, https://arxiv.org/abs/1901.02324)"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        inner = 0.5 * (x + 1)
        return torch.where(x <= -1, torch.zeros_like(x), torch.where(x >= 1, torch.ones_like(x), inner))


class Tanh(Activation):
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x))"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x)


class HardTanh(Activation):
    """x, kept within -1 and 1"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.hardtanh(x)


class TanhShrink(Activation):
    """x - tanh(x)"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.tanhshrink(x)


class SoftShrink(Activation):
    """x moved by 1/2 towards zero, and zero where |x| <= 1/2"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.softshrink(x)


class HardShrink(Activation):
    """x where |x| > 1/2, else zero"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.hardshrink(x)


class Softplus(Activation):
    """log(exp(x) + 1)"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.softplus(x)


class Squareplus(Activation):
    """(x + sqrt(x^2 + 4)) / 2 (Barron, 2021, https://arxiv.org/abs/2112.11687)"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return (x + torch.sqrt(x**2 + 4)) / 2


class SparsePlus(Activation):
    """0 up to -1, (x + 1)^2 / 4 between, x from 1 on"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x <= -1, torch.zeros_like(x), torch.where(x < 1, 0.25 * (x + 1) ** 2, x))


class Softsign(Activation):
    """x / (|x| + 1)"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.softsign(x)


class Exponential(Activation):
    """exp(x)"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(x)
