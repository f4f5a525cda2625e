"""Recipes drawn at random whose models, losses, optimizers and ways to train go together.

Nothing in them makes a rounding grow: gradients that are zero but for rounding stay small (Adam and RMSprop divide by
0.01 at least), no layer jumps, and a batch never is a single row.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import yaml

ACTIVATIONS = ("relu", "tanh", "sigmoid", "elu", "linear")
RARE = ("selu", "softplus", "softsign", "swish", "gelu", "leaky_relu", "hard_sigmoid", "mish", "softmax", "celu")
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"learning_rate": 0.02},
    "RMSprop": {"learning_rate": 0.002, "epsilon": 0.01},
    "Adam": {"learning_rate": 0.002, "epsilon": 0.01},
    "AdamW": {"learning_rate": 0.002, "epsilon": 0.01},
    "Adagrad": {"learning_rate": 0.005},
    "Adamax": {"learning_rate": 0.002, "epsilon": 0.01},
}
ONE_HOT = ("categorical_crossentropy", "mse", "kl_divergence", "categorical_hinge", "binary_crossentropy", "poisson")
MERGING = ("Add", "Multiply", "Subtract", "Maximum", "Minimum", "Average", "Concatenate")
SHAPES = {"rows": [64], "pictures": [8, 8, 1], "sequences": [8, 8], "words": [64]}
Line = str | dict[str, Any]


class Drawn:
    """A recipe; without `noise` no layer in it draws random numbers, and rows keep their order."""

    def __init__(self, seed: int, *, noise: bool):
        self.random, self.noise = random.Random(seed), noise
        self.kind = self._one("rows", "rows", "pictures", "sequences", "words")
        self.lines: list[Line] = []
        {"rows": self._rows, "pictures": self._pictures, "sequences": self._sequences, "words": self._words}[
            self.kind
        ]()
        loss, last = self._loss()
        self.lines += last
        self.text = yaml.safe_dump(
            {
                "name": f"drawn_{seed}",
                "seed": seed,
                "dataset": self._dataset(one_hot=isinstance(loss, str) and loss in ONE_HOT),
                "model": {"layers": self.lines},
                "compile": {"optimizer": self._optimizer(), "loss": loss, "metrics": ["accuracy"]},
                "fit": self._fit(),
            },
            sort_keys=False,
        )

    def _one(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def _some(self, chance: float, **options: Any) -> dict[str, Any]:
        return {name: value for name, value in options.items() if self.random.random() < chance}

    def _dataset(self, *, one_hot: bool) -> dict[str, Any]:
        steps: list[Line] = [{"Reshape": {"target_shape": SHAPES[self.kind]}}]
        if self.kind != "words":
            steps.append({"Rescaling": {"scale": 1 / 16}})
        classes = {"CategoryEncoding": {"num_tokens": 10, "output_mode": "one_hot"}}
        return {
            "source": "digits",
            "inputs": {"image": {"preprocess": steps}},
            "targets": {"label": {"preprocess": [classes]} if one_hot else {}},
            # No last batch of one row, with or without a part for validation.
            "limit": self._one(40, 64, 96),
            "split": {"test": {"last": 50}},
        }

    def _optimizer(self) -> dict[str, Any]:
        name = self._one("SGD", "SGD", *OPTIMIZERS)
        more = {"clipnorm": 0.5} | ({"momentum": 0.9} if name == "SGD" else {})
        more |= {"use_ema": True, "gradient_accumulation_steps": 2, "weight_decay": 0.01}
        return {name: OPTIMIZERS[name] | self._some(0.1, **more)}

    def _fit(self) -> dict[str, Any]:
        fit = {"epochs": 2, "batch_size": self._one(10, 16, 32, 200), "shuffle": self.noise and self._one(True, False)}
        return fit | self._some(0.5, validation_split=0.25) | self._some(0.1, validation_batch_size=9)

    def _loss(self) -> tuple[Any, list[Line]]:
        loss = self._one("sparse_categorical_crossentropy", "sparse_categorical_crossentropy", *ONE_HOT)
        if loss == "sparse_categorical_crossentropy" and self._one(True, False):
            return {loss: {"from_logits": True}}, [{"Dense": {"units": 10}}]
        activation = "sigmoid" if loss == "binary_crossentropy" else "softmax"
        if self._one(True, True, False):
            return loss, [{"Dense": {"units": 10, "activation": activation}}]
        return loss, [{"Dense": {"units": 10}}, {"Activation": {"activation": activation}}]

    def _activation(self) -> str:
        return self._one(*ACTIVATIONS, *ACTIVATIONS, *RARE)

    def _weighted(self, kernel: str = "kernel") -> dict[str, Any]:
        said = {f"{kernel}_regularizer": self._one("l2", "l1"), f"{kernel}_constraint": "unit_norm", "trainable": False}
        return self._some(0.07, **said)

    def _dense(self) -> Line:
        said = {"units": self._one(1, 3, 8, 16, 20, 33)} | self._some(0.8, activation=self._activation())
        return {"Dense": said | self._some(0.1, use_bias=False, activity_regularizer="l2") | self._weighted()}

    def _noisy(self, *layers: Line) -> Line:
        return self._one(*layers) if self.noise else self._dense()

    def _vector_layer(self) -> Line:
        kinds: tuple[Callable[[], Line], ...] = (
            *(self._dense,) * 5,
            lambda: self._noisy(
                {"Dropout": {"rate": 0.3}}, {"GaussianNoise": {"stddev": 0.1}}, {"GaussianDropout": {"rate": 0.2}}
            ),
            lambda: {"BatchNormalization": self._some(0.2, center=False, scale=False, momentum=0.9)},
            lambda: {"LayerNormalization": self._some(0.2, center=False, scale=False)},
            lambda: {"Activation": {"activation": self._activation()}},
            lambda: self._one("LeakyReLU", "PReLU", "ReLU", {"Rescaling": {"scale": 0.5, "offset": 0.1}}),
            lambda: {"ActivityRegularization": {"l2": 0.01}},
        )
        return self._one(*kinds)()

    def _branch(self) -> list[Line]:
        one, other, width = f"a{len(self.lines)}", f"b{len(self.lines)}", self._one(8, 12)
        return [
            {"Dense": {"units": width, "name": one, "activation": self._activation()}},
            {"Dense": {"units": width, "name": other, "activation": self._activation(), "inputs": one}},
            {self._one(*MERGING): {"inputs": [one, other]}},
        ]

    def _rows(self) -> None:
        for _ in range(self.random.randint(0, 4)):
            self.lines += self._branch() if self.random.random() < 0.2 else [self._vector_layer()]

    def _pictures(self) -> None:
        side = 8
        for _ in range(self.random.randint(1, 3)):
            size, padding, step = self._one(1, 2, 3), self._one("same", "valid"), self._one(1, 1, 1, 2)
            made = _length(side, size, step, padding)
            if made:
                side = made
                self.lines.append(self._convolution(size, padding, step))
            if self._one(True, False, False):
                self.lines.append(self._one("BatchNormalization", {"Activation": {"activation": self._activation()}}))
            if side > 2 and self._one(True, True, False):
                size, padding, step = self._one(2, 2, 3), self._one("valid", "valid", "same"), self._one(None, None, 1)
                kind = self._one("MaxPooling2D", "MaxPooling2D", "AveragePooling2D")
                # Keras on torch repeats the border where an AveragePooling is padded; that has tests of its own.
                padding = "valid" if kind == "AveragePooling2D" else padding
                self.lines.append({kind: {"pool_size": size, "padding": padding, "strides": step}})
                side = _length(side, size, step or size, padding)
        self.lines.append(self._one("Flatten", "Flatten", "GlobalAveragePooling2D", "GlobalMaxPooling2D"))

    def _convolution(self, size: int, padding: str, step: int) -> Line:
        said = {"kernel_size": size, "padding": padding, "strides": step}
        said |= self._some(0.7, activation=self._activation())
        kind = self._one("Conv2D", "Conv2D", "Conv2D", "SeparableConv2D", "DepthwiseConv2D")
        if kind == "Conv2D":
            said |= {"filters": self._one(1, 4, 8, 17)} | self._weighted() | self._some(0.1, use_bias=False)
        elif kind == "SeparableConv2D":
            said |= {"filters": self._one(4, 8)}
        return {kind: said}

    def _recurrent(self, *, every: bool) -> Line:
        kind = self._one("LSTM", "GRU", "SimpleRNN")
        said: dict[str, Any] = {"units": self._one(1, 5, 16, 20)}
        said |= {"return_sequences": True} if every else {}
        said |= self._some(0.1, use_bias=False, activation=self._one("tanh", "sigmoid", "softsign")) | self._weighted()
        said |= self._some(0.15, dropout=0.2, recurrent_dropout=0.2) if self.noise else {}
        said |= self._some(0.2, reset_after=False) if kind == "GRU" else {}
        if self._one(True, False, False, False):
            return {"Bidirectional": {"layer": {kind: said}} | self._some(0.3, merge_mode=self._one("sum", "ave"))}
        return {kind: said | self._some(0.1, go_backwards=True)}

    def _steps(self) -> None:
        """Layers of sequences, down to a vector."""
        for _ in range(self.random.randint(0, 2)):
            activation = {"activation": self._activation()}
            self.lines.append(
                self._one(
                    {"TimeDistributed": {"layer": self._dense()}},
                    {"Conv1D": {"filters": 4, "kernel_size": 3, "padding": self._one("same", "causal"), **activation}},
                    self._noisy({"SpatialDropout1D": {"rate": 0.2}}),
                    self._recurrent(every=True),
                    self._recurrent(every=True),
                    "LayerNormalization",
                )
            )
        self.lines.append(self._one(*(self._recurrent(every=False) for _ in range(3)), "GlobalAveragePooling1D"))

    def _sequences(self) -> None:
        if self._one(True, False, False, False):
            self.lines.append({"Masking": {"mask_value": 0.0}})
        self._steps()

    def _words(self) -> None:
        said = {"input_dim": 17, "output_dim": self._one(4, 8, 16)} | self._some(0.3, mask_zero=True)
        self.lines.append({"Embedding": said | self._weighted("embeddings")})
        self._steps()


def _length(side: int, size: int, step: int, padding: str) -> int:
    """Windows along an axis."""
    return -(-side // step) if padding == "same" else max(0, (side - size) // step + 1)
