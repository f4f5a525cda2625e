"""Networks with weights that are nowhere at their default, for the exports of models; and their sources run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from tests.runs.test_keras_opens import ZOO
from tests.runs.zoo import PIPELINES, UNSAVED
from trainer.keras_files.serving import Entry
from trainer.keras_files.source_code.form import image
from trainer.keras_files.source_code.source import source_of
from trainer.layers.base import Layer
from trainer.layers.graph import chain
from trainer.model.network import Network
from trainer.recipe.dataset import Feature
from trainer.train.pipeline import Pipeline

ANIMALS = {
    f"{name}-{number}": animal
    for name, animals in {**ZOO, **UNSAVED, **PIPELINES}.items()
    for number, animal in enumerate(animals)
}
"Every layer: (shape of a row, the line of a recipe)."
RANDOM = ("ropout", "Noise", "Random", "Mix", "Aug", "Solar")
"What is in the names of layers that draw in training."
CHILD = Path(__file__).parent / "plain_child.py"


def network(shape: Sequence[Any], layer: str) -> Network:
    """A layer, then Flatten and Dense."""
    Layer.spellings()
    sizes = tuple(n for n in shape if n != "ids")
    lines = yaml.safe_load(f"[{{{layer}}}, Flatten, {{Dense: {{units: 1}}}}]")
    return weighed(Network(chain([Layer.parse(line) for line in lines], {"x": (None, *sizes)}), seed=3))


def weighed(network: Network) -> Network:
    """With numbers in biases, scales and statistics that begin as zeros and ones."""
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, path, tensor, _ in network.rows():
            if "variance" in path:
                tensor.add_(torch.rand(tensor.shape, generator=random))
            elif tensor.is_floating_point() and not any(w in path for w in ("kernel", "embed", "stddev")):
                tensor.add_(torch.randn(tensor.shape, generator=random) * 0.1)
    return network.eval()


def rows(shape: Sequence[Any], layer: str, count: int = 7) -> torch.Tensor:
    """Rows for it, among them masked steps and values on boundaries."""
    random = np.random.default_rng(2)
    if shape[-1] == "ids":
        return torch.from_numpy(random.integers(0, 7, (count, *shape[:-1])))
    x = random.normal(1, 1, (count, *shape)).astype("float32")
    x[:, -1:] = 0.0 if "Masking}" in layer else x[:, -1:]
    x[::3, 0] = 0.5
    return torch.from_numpy(x)


@dataclass
class Case:
    """A network, what it is fed, and where its source goes."""

    network: Network
    xs: Sequence[torch.Tensor]
    folder: Path

    def entries(self) -> list[Entry]:
        made = []
        for name, x in zip(self.network.graph.inputs, self.xs, strict=True):
            pipeline = Pipeline(Feature(field=name), (None, *x.shape[1:]), name)
            wanted = None if not x.is_floating_point() else torch.float32
            made.append(Entry(name, pipeline, 0, (None, *x.shape[1:]), x.dtype, wanted))
        return made

    def write(self, name: str = "model") -> str:
        """The source, its weights and the rows in the folder; the source's text."""
        source = source_of(self.network, self.entries(), name)
        self.folder.mkdir(parents=True)
        (self.folder / "model.py").write_text(source.text, encoding="utf-8")
        (self.folder / "model.safetensors").write_bytes(image(source))
        arrays = {name: x.numpy() for name, x in zip(self.network.graph.inputs, self.xs, strict=True)}
        np.savez(self.folder / "rows.npz", allow_pickle=False, **arrays)
        return source.text

    def outputs(self) -> list[np.ndarray]:
        with torch.no_grad():
            return [made.numpy() for made in self.network.run(*self.xs).outputs]

    def train(self) -> None:
        """A step, as the child takes it."""
        self.network.train()
        made = self.network.run(*self.xs).outputs
        loss = sum((o * torch.linspace(0.5, 1.5, o.numel()).reshape(o.shape)).sum() for o in made)
        moving = [p for p in self.network.parameters() if p.requires_grad]
        slopes = torch.autograd.grad(loss, moving, allow_unused=True) if moving else ()
        with torch.no_grad():
            for parameter, slope in zip(moving, slopes, strict=True):
                if slope is not None:
                    parameter.sub_(slope * 0.01)
        self.network.eval()

    def is_random(self) -> bool:
        """Whether training draws numbers."""
        kinds = {type(c.layer).__name__ for c in self.network.modules() if hasattr(c, "layer")}
        rates = [getattr(c.layer, n, 0) for c in self.network.modules() if hasattr(c, "layer") for n in RATES]
        return any(word in kind for kind in kinds for word in RANDOM) or any(rates)


RATES = ("dropout", "recurrent_dropout")


def hold(cases: Sequence[Case]) -> None:
    """Each source, imported by a Python that knows no trainer, predicts alike, before and after a training step."""
    command = [sys.executable, "-I", str(CHILD), json.dumps([str(case.folder) for case in cases])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for case in cases:
        with np.load(case.folder / "made.npz") as held:
            made = dict(held)
        close(case, made, "before")
        if not case.is_random():
            case.train()
            close(case, made, "after")


def close(case: Case, made: dict[str, np.ndarray], when: str) -> None:
    """Outputs within 1e-5 of their scale."""
    for number, wanted in enumerate(case.outputs()):
        scale = max(float(np.abs(wanted).max()), 1e-6)
        found = made[f"{when}_{number}"]
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * scale, err_msg=f"{case.folder.name}: {when}")
