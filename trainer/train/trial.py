"""A dry run: everything is built and one batch is trained; nothing is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.errors import TrainerError
from trainer.model.summary import summarize
from trainer.recipe.load import Loaded
from trainer.recipe.schema import Recipe
from trainer.sources.columns import Rows
from trainer.train.beginning import begin_with
from trainer.train.build import Built, build, real_outlines
from trainer.train.devices import choose_device, set_threads, step_work
from trainer.train.loop import Training
from trainer.train.rows import divide
from trainer.train.stages import hand_over, placed
from trainer.train.terms import Options, open_table


def trial(loaded: Loaded, options: Options, folder: Path | None) -> dict[str, Any]:
    """Loss of the first batch (of each phase), parameters and rows.

    Raises:
        TrainerError: with its place in the recipe.
    """
    recipe = loaded.recipe
    table = open_table(recipe, folder, options)
    try:
        outlines, rows, device = (
            real_outlines(recipe, table),
            divide(recipe, table).train,
            choose_device(options.device),
        )
        losses: list[float] = []
        before: Built | None = None
        for number, stage in enumerate(recipe.stages()):
            with placed(recipe, number):
                learned = before.preprocessing() if before is not None else None
                built = build(stage, outlines[number], rows, device, learned)
                if before is not None:
                    hand_over(before, built)
                elif stage.model.weights is not None:
                    begun = begin_with(built.network, stage.model.weights, options.runs, folder)
                    options.progress.say(f"Weights of {begun.file}: {begun.found}")
                losses.append(_one_batch(stage, built, rows))
                before = built
    except TrainerError as error:
        raise loaded.document.locate(error) if any(p.path for p in error.problems) else error from None
    assert before is not None
    phases = {"phases": losses} if recipe.phases else {}
    return {"loss": losses[0], **phases, "parameters": summarize(before.graph).parameters, "rows": len(rows)}


def _one_batch(stage: Recipe, built: Built, rows: Rows) -> float:
    set_threads(step_work(built.graph, stage.fit.batch_size))
    feed = built.training_feed(rows)
    once = stage.fit.model_copy(update={"epochs": stage.fit.initial_epoch + 1, "steps_per_epoch": 1})
    training = Training(built.network, built.objective, built.updater(), (), once, stage.seed, feed, None, Path())
    return training.run()["loss"][0]
