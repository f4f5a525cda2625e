"""One recipe trained with several seeds; small models by as many processes as there are cores.

A small model's steps keep one core busy. Each seed is a run of its own, with the numbers that it has by itself.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from trainer.recipe.document import Document
from trainer.recipe.load import Loaded, default_name, recipe_of
from trainer.runs.directory import finder
from trainer.switches import cores, on
from trainer.train.devices import SMALL_STEP, choose_device, step_work
from trainer.train.job import Options, Outcome, fit
from trainer.train.progress import Quiet

WORTHWHILE = 15.0
"Seconds of training from which other processes help; one takes two seconds to begin."


@dataclass(frozen=True)
class Recipe:
    """A recipe to be trained with several seeds."""

    document: Document
    name: str
    seed: int
    text: bytes
    folder: Path
    "Where relative paths of data go from."
    plugins: Path
    "Where plugins are."

    def trained(self, number: int, options: Options) -> Outcome:
        """A run with the seed moved on by `number`."""
        document = self.document.with_(("seed",), self.seed + number)
        find_run = finder(options.runs)
        name = default_name(self.name)
        loaded = recipe_of(document, name, self.plugins, allow_plugins=options.allow_plugins, find_run=find_run)
        return fit(loaded, options, self.text, self.folder, self.plugins)


def train_seeds(
    loaded: Loaded, count: int, options: Options, text: bytes, folder: Path, plugins: Path
) -> list[Outcome]:
    """A run for each of `count` seeds, from the recipe's on.

    Raises:
        TrainerError: one of them failed.
    """
    recipe = Recipe(loaded.document, loaded.recipe.name, loaded.recipe.seed, text, folder, plugins)
    first = recipe.trained(0, options)
    rest = range(1, count)
    if len(rest) < 2 or len(rest) * first.seconds < WORTHWHILE or not _small(loaded, options):
        return [first, *(recipe.trained(number, options) for number in rest)]
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(cores(), len(rest)) - 1, context, initializer=_end_with_parent)
    try:
        return [first, *_shared(recipe, options, {n: pool.submit(recipe.trained, n, options) for n in rest})]
    finally:
        pool.shutdown(cancel_futures=True)


def _shared(recipe: Recipe, options: Options, futures: dict[int, Future[Outcome]]) -> list[Outcome]:
    """The outcomes; this process takes the last of those that no other has begun, until there are none."""
    mine = {n: recipe.trained(n, options) for n in reversed(futures) if futures[n].cancel()}
    return [mine[n] if n in mine else _outcome(recipe, n, options, future) for n, future in futures.items()]


def _outcome(recipe: Recipe, number: int, options: Options, future: Future[Outcome]) -> Outcome:
    """What another process came to; what failed there is tried here, where its error is whole."""
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, KeyboardInterrupt):
        raise error
    return recipe.trained(number, options)


def _small(loaded: Loaded, options: Options) -> bool:
    """Whether its steps leave a core idle, and nobody wants to see them."""
    graph = loaded.outline.graph
    if cores() < 2 or not on("seeds") or graph is None or type(options.progress) is not Quiet:
        return False
    batch = max(stage.fit.batch_size for stage in loaded.recipe.stages())
    return choose_device(options.device).type == "cpu" and step_work(graph, batch) < SMALL_STEP


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, however it ended."""

    def watch() -> None:
        process = multiprocessing.parent_process()
        if process is not None:
            process.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()
