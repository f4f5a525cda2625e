"""Our model as Keras's files: the `.keras` archive, whole-model HDF5, weights alone, the architecture as JSON.

All of them are made in memory, and equal content gives equal bytes.
https://keras.io/guides/serialization_and_saving/
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.keras_files.state import State, kept, variables
from trainer.layers.graph import Graph
from trainer.layers.models import Composite
from trainer.layers.pipeline import Pipeline
from trainer.optimizers.base import Optimizer
from trainer.optimizers.loss_scale import LossScaleOptimizer
from trainer.runs.image import cut
from trainer.runs.keras_config import KERAS_VERSION, Asked, model_config, training_config
from trainer.runs.model_file import model_bytes
from trainer.runs.weights_image import Kept, weights_bytes
from trainer.schedules.base import ConstantRate

if TYPE_CHECKING:
    import h5py

    from trainer.model.network import Network

EPOCH = (1980, 1, 1, 0, 0, 0)
"The time that every member of an archive has, so that equal models make equal files."


@dataclass(frozen=True)
class Compiled:
    """What a model is trained with."""

    optimizer: Optimizer
    goals: Sequence[Asked]
    state: State | None = None
    "The optimizer's, as `Updater.state()` gives it; None where the file has none."
    learning_rate: float | None = None
    "What training has come to, where a callback moved it."

    def at_rate(self) -> Optimizer:
        """The optimizer with that learning rate."""
        if self.learning_rate is None:
            return self.optimizer
        made, rate = self.optimizer, {"learning_rate": ConstantRate(learning_rate=self.learning_rate)}
        if isinstance(made, LossScaleOptimizer):
            return made.model_copy(update={"inner_optimizer": made.inner_optimizer.model_copy(update=rate)})
        return made.model_copy(update=rate)


def architecture(graph: Graph, compiled: Compiled | None = None) -> dict[str, Any]:
    """The model as Keras serializes it: what stands in config.json, and what `to_json` gives."""
    described = model_config(graph)
    functional = described["class_name"] == "Functional"
    # Of a graph Keras keeps no shape here: its inputs say theirs.
    shape = None if functional else list(graph.shapes[next(iter(graph.inputs.values()))])
    found = {
        "module": "keras.src.models.functional" if functional else "keras",
        "class_name": described["class_name"],
        "config": {**described["config"], "layers": list(_built(graph, described["config"]["layers"]))},
        "registered_name": "Functional" if functional else None,
        "build_config": {"input_shape": shape},
    }
    return found if compiled is None else {**found, "compile_config": compile_config(graph, compiled)}


def _built(graph: Graph, entries: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The entries of layers, those with weights that read one tensor with the shape they were built for."""
    sizes = {name: moving + still for name, _, _, moving, still in graph.sizes()}
    for entry in entries:
        name = entry["config"]["name"]
        calls = [call for call in graph.calls if call.layer == name]
        reads = [graph.shapes[number] for call in calls[:1] for number in call.inputs]
        plain = len(reads) == 1 and not isinstance(reads[0], list)
        # Keras marks a Pipeline as built by its shape without building what it holds.
        composite = isinstance(graph.layers.get(name), (Composite, Pipeline))
        if plain and sizes.get(name) and not composite:
            yield {**entry, "build_config": {"input_shape": list(reads[0])}}
        else:
            yield entry


def compile_config(graph: Graph, compiled: Compiled) -> dict[str, Any]:
    """What `compile` was given, as Keras's archives have it: the optimizer as an object with its module."""
    described = _training(graph, compiled)
    config = described.pop("optimizer_config")["config"]
    return {"optimizer": {**compiled.at_rate().to_keras(), "config": config}, **described}


def _training(graph: Graph, compiled: Compiled) -> dict[str, Any]:
    return training_config(compiled.at_rate(), compiled.goals, graph.name)


def json_bytes(graph: Graph) -> bytes:
    """The architecture alone, which `keras.models.model_from_json` takes."""
    return json.dumps(architecture(graph), indent=2).encode() + b"\n"


def archive_bytes(
    network: Network, compiled: Compiled | None, *, saved: str = "", assets: Mapping[str, bytes] | None = None
) -> bytes:
    """A `.keras` archive that real Keras opens and trains on from, with the optimizer's state.

    `saved` is the time to write into it (`2026-01-31@12:00:00`); `assets` are files by their path under `assets`.
    """
    metadata = {"keras_version": KERAS_VERSION, "date_saved": saved}
    members = {
        "metadata.json": json.dumps(metadata).encode(),
        "config.json": json.dumps(architecture(network.graph, compiled)).encode(),
        "model.weights.h5": weights_image(network, compiled),
        **{f"assets/{path}": data for path, data in sorted((assets or {}).items())},
    }
    image = io.BytesIO()
    with zipfile.ZipFile(image, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), data)
    return image.getvalue()


def weights_image(network: Network, compiled: Compiled | None = None) -> bytes:
    """A `.weights.h5` file, with the optimizer's state where there is one, as Keras's `save_weights` writes it."""
    return weights_bytes(network, _state(compiled))


def _state(compiled: Compiled | None) -> list[Kept]:
    return kept(compiled.optimizer, compiled.state) if compiled is not None and compiled.state is not None else []


def hdf5_bytes(network: Network, compiled: Compiled | None) -> bytes:
    """A whole-model HDF5 file of Keras's groups alone; an optimizer's state goes where Keras 2 reads it.

    With that group Keras 3.15 opens the file, predicts and evaluates, and then can't `fit`.
    """
    import h5py

    described = None if compiled is None else _training(network.graph, compiled)
    image = io.BytesIO(model_bytes(network, described, None))
    if compiled is not None and compiled.state is not None:
        model = network.graph.name if network.graph.is_chain() else ""
        with h5py.File(image, "r+") as file:
            _write_state(file.create_group("optimizer_weights"), variables(compiled.optimizer, compiled.state, model))
    return image.getvalue()


def _write_state(group: h5py.Group, rows: Sequence[tuple[str, Any]]) -> None:
    names: dict[str, Any] = {}
    for name, values in rows:
        # Several optimizers of one kind, of which Keras numbers the names.
        number = sum(known == name or known.startswith(f"{name}~") for known in names)
        names[f"{name}~{number}" if number else name] = values
    group.attrs.update({key: list(part) for key, part in cut("weight_names", list(names)).items()})
    for name, values in names.items():
        group.create_dataset(name, data=values)
