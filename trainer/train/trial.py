"""A dry run: everything is built and one batch is trained; nothing is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.model.summary import summarize
from trainer.recipe.load import Loaded
from trainer.train.build import build, real_outline, step_work
from trainer.train.devices import choose_device, set_threads
from trainer.train.loop import Training
from trainer.train.rows import divide
from trainer.train.terms import Options, open_table


def trial(loaded: Loaded, options: Options, folder: Path | None) -> dict[str, Any]:
    """Loss of the first batch, parameters and rows."""
    recipe = loaded.recipe
    table = open_table(recipe, folder, options)
    sets = divide(recipe, table)
    built = build(recipe, real_outline(recipe, table), sets.train, choose_device(options.device))
    set_threads(step_work(built.graph, recipe.fit.batch_size))
    feed = built.training_feed(sets.train)
    once = recipe.fit.model_copy(update={"epochs": recipe.fit.initial_epoch + 1, "steps_per_epoch": 1})
    training = Training(built.network, built.objective, built.updater(), (), once, recipe.seed, feed, None, Path())
    history = training.run()
    return {"loss": history["loss"][0], "parameters": summarize(built.graph).parameters, "rows": len(feed)}
