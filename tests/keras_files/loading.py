"""A model file through the whole import, but for the run directory: its network here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from trainer.keras_files.arrays import current_arrays
from trainer.keras_files.assign import put_in
from trainer.keras_files.current import Description, current
from trainer.keras_files.opening import Opened, open_file
from trainer.keras_files.recipe import translated
from trainer.keras_files.recipe_text import recipe_text
from trainer.model.network import Network
from trainer.recipe.document import Document
from trainer.recipe.load import recipe_of
from trainer.train.build import build
from trainer.train.devices import choose_device
from trainer.train.unseen import stand_in


def network_of(
    opened: Opened, description: Description, folder: Path, shape: Sequence[int | None] | None = None
) -> Network:
    """The network that an import makes of a file."""
    made = translated(description, "model", opened.assets, None if shape is None else tuple(shape))
    document = Document.parse(recipe_text(made.recipe, []), "model.yaml")
    loaded = recipe_of(document, "model", folder)
    sets = stand_in(loaded.recipe, loaded.outline)
    built = build(loaded.recipe, loaded.outline, sets.train, choose_device("cpu"))
    put_in(built.network, current_arrays(description, opened), made.level)
    return built.network.eval()


def loaded_file(
    path: Path, shape: Sequence[int | None] | None = None, *, theano: bool = False
) -> tuple[Network, Description]:
    """The network and the description that an import makes of a file."""
    opened = open_file(path)
    description = current(opened, shape, theano=theano)
    return network_of(opened, description, path.parent, shape), description


def predicted(network: Network, *inputs: np.ndarray) -> list[np.ndarray]:
    """What the network makes of these inputs."""
    tensors = [torch.from_numpy(x) for x in inputs]
    with torch.no_grad():
        made = network(*tensors)
    return [t.float().numpy() for t in (made if isinstance(made, tuple) else (made,))]
