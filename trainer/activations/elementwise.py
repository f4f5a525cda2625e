"""Activations that act on each element alone.

Formulas and defaults are those of https://keras.io/api/layers/activations/; Keras's `threshold` has no defaults, so
no name alone could stand for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.activations.base import Activation
from trainer.lazy import F, torch
from trainer.program import native

if TYPE_CHECKING:
    from trainer.activations.base import Back
    from trainer.program import Program


_SELU = (1.6732632423543772848170429916717, 1.0507009873554804934193349852946)
"alpha and scale."


def _back(p: Program, name: str, *known: object) -> Back:
    """The way back by one of torch's own operations, `name`_backward(gradient, *known), in place."""
    operation = native(f"{name}_backward", "grad_input")

    def back(slope: torch.Tensor) -> torch.Tensor:
        p.do(operation, slope, *known, grad_input=slope)
        return slope

    return back


def _forth(p: Program, name: str, x: torch.Tensor, *options: object) -> torch.Tensor:
    """What torch's own operation of that name makes of `x`, which stays for the way back."""
    made = torch.empty_like(x)
    p.do(native(name, "out"), x, *options, out=made)
    return made


def _copied(p: Program, name: str, x: torch.Tensor) -> Back:
    """The way back by an operation that has no form in place."""
    operation = native(f"{name}_backward")

    def back(slope: torch.Tensor) -> torch.Tensor:
        p.do(lambda: slope.copy_(operation(slope, x)))
        return slope

    return back


class Linear(Activation):
    """x"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        return x, lambda slope: slope


class Relu(Activation):
    """max(x, 0)"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x)

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        p.do(torch.relu_, x)
        return x, _back(p, "threshold", x, 0)


class Relu6(Activation):
    """min(max(x, 0), 6)"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu6(x)

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        return _forth(p, "hardtanh", x, 0, 6), _back(p, "hardtanh", x, 0, 6)


class LeakyRelu(Activation):
    """x where x > 0, else 0.2 x"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(x, 0.2)

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        return _forth(p, "leaky_relu", x, 0.2), _back(p, "leaky_relu", x, 0.2, False)


class Elu(Activation):
    """x where x > 0, else exp(x) - 1 (Clevert et al., 2016, https://arxiv.org/abs/1511.07289)"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.elu(x)

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        return _forth(p, "elu", x, 1.0), _back(p, "elu", 1.0, 1.0, 1.0, False, x)


class Celu(Activation):
    """max(x, 0) + min(exp(x) - 1, 0) (Barron, 2017, https://arxiv.org/abs/1704.07483)"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.celu(x)

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        return _forth(p, "elu", x, 1.0), _back(p, "elu", 1.0, 1.0, 1.0, False, x)


class Selu(Activation):
    """1.0507 elu(x) with 1.6733 in place of 1 below zero: keeps mean 0 and variance 1 from layer to layer.

    Goes with `lecun_normal` (Klambauer et al., 2017, https://arxiv.org/abs/1706.02515).
    """

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.selu(x)

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        return _forth(p, "elu", x, *_SELU), _back(p, "elu", *_SELU, 1.0, False, x)


class Gelu(Activation):
    """x P(X <= x) with X standard normal, exact (Hendrycks and Gimpel, 2016, https://arxiv.org/abs/1606.08415)"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.gelu(x)

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        return _forth(p, "gelu", x), _back(p, "gelu", x)


class Silu(Activation):
    """x sigmoid(x) (Ramachandran et al., 2017, https://arxiv.org/abs/1710.05941)"""

    aliases = ("swish",)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.silu(x)

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        return _forth(p, "silu", x), _back(p, "silu", x)


class HardSilu(Activation):
    """x hard_sigmoid(x) (Howard et al., 2019, https://arxiv.org/abs/1905.02244)"""

    aliases = ("hard_swish",)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.hardswish(x)

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        return _forth(p, "hardswish", x), _copied(p, "hardswish", x)


class Mish(Activation):
    """x tanh(softplus(x)) (Misra, 2019, https://arxiv.org/abs/1908.08681)"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.mish(x)

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        return _forth(p, "mish", x), _copied(p, "mish", x)


class Sigmoid(Activation):
    """1 / (1 + exp(-x))"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(x)

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        p.do(torch.sigmoid_, x)
        return x, _back(p, "sigmoid", x)


class LogSigmoid(Activation):
    """log(1 / (1 + exp(-x)))"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.logsigmoid(x)

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        made, buffer = native("log_sigmoid_forward")(x)
        p.do(native("log_sigmoid_forward", "output"), x, output=made, buffer=buffer)
        return made, _back(p, "log_sigmoid", x, buffer)


class HardSigmoid(Activation):
    """x / 6 + 1/2, kept within 0 and 1"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.hardsigmoid(x)

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        return _forth(p, "hardsigmoid", x), _back(p, "hardsigmoid", x)


class SparseSigmoid(Activation):
    """(x + 1) / 2, kept within 0 and 1 (Blondel et al., 2019, https://arxiv.org/abs/1901.02324)"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        inner = 0.5 * (x + 1)
        return torch.where(x <= -1, torch.zeros_like(x), torch.where(x >= 1, torch.ones_like(x), inner))


class Tanh(Activation):
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x))"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x)

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        p.do(torch.tanh_, x)
        return x, _back(p, "tanh", x)


class HardTanh(Activation):
    """x, kept within -1 and 1"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.hardtanh(x)

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        return _forth(p, "hardtanh", x, -1, 1), _back(p, "hardtanh", x, -1, 1)


class TanhShrink(Activation):
    """x - tanh(x)"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.tanhshrink(x)

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        squashed = p.make(torch.tanh, x)

        def back(slope: torch.Tensor) -> torch.Tensor:
            p.do(native("tanh_backward", "grad_input"), slope, squashed, grad_input=x)
            p.do(slope.sub_, x)
            return slope

        return p.make(torch.sub, x, squashed), back


class SoftShrink(Activation):
    """x moved by 1/2 towards zero, and zero where |x| <= 1/2"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.softshrink(x)

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        return _forth(p, "softshrink", x, 0.5), _back(p, "softshrink", x, 0.5)


class HardShrink(Activation):
    """x where |x| > 1/2, else zero"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.hardshrink(x)

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        return _forth(p, "hardshrink", x, 0.5), _back(p, "hardshrink", x, 0.5)


class Softplus(Activation):
    """log(exp(x) + 1)"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.softplus(x)

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        return _forth(p, "softplus", x), _back(p, "softplus", x, 1, 20)


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

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        p.do(x.exp_)

        def back(slope: torch.Tensor) -> torch.Tensor:
            p.do(slope.mul_, x)
            return slope

        return x, back
