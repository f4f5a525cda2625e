"""A whole `fit` of ours beside real Keras: equal first weights, no shuffling, equal histories and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch

from tests.parity.census import held
from tests.parity.harness import as_numpy, close
from tests.parity.optimizers import twin as optimizer_twin
from trainer.declare import Declared
from trainer.layers.bags import Bags
from trainer.layers.graph import Graph
from trainer.recipe.load import Loaded
from trainer.runs.keras_config import model_config
from trainer.train.build import Built, build, real_outlines
from trainer.train.devices import settings_kept
from trainer.train.feed import Feed
from trainer.train.loop import Training
from trainer.train.rows import divide
from trainer.train.scoring import as_array
from trainer.train.terms import Options, open_table


def ours(made: Loaded, options: Options | None = None) -> tuple[Built, Training]:
    """A training of ours, ready to run."""
    recipe = made.recipe
    table = open_table(recipe, None, options or Options())
    sets = divide(recipe, table)
    built = build(recipe, real_outlines(recipe, table)[0], sets.train, torch.device("cpu"))
    train = built.training_feed(sets.train)
    validation = built.feed(sets.validation) if sets.validation is not None else None
    training = Training(
        built.network,
        built.objective,
        built.updater(),
        (),
        recipe.fit,
        recipe.seed,
        train,
        validation,
        Path(),
    )
    return built, training


def model_of(graph: Graph) -> Any:
    """The same model in real Keras, read from the config that we write."""
    described = model_config(graph)
    kind = keras.Sequential if described["class_name"] == "Sequential" else keras.Model
    return kind.from_config(described["config"])


def twin(built: Built) -> Any:
    """The same model in real Keras, with our first weights and compile settings."""
    goals = list(built.objective.goals.values())
    parts = [part for goal in goals for part in (goal.loss, *goal.metrics, *goal.weighted_metrics)]
    for part in (*built.graph.layers.values(), built.recipe.compile.optimizer, *parts):
        if isinstance(part, Declared):
            held(part, "trained")
    model = model_of(built.graph)
    for name in built.graph.layers:
        rows = [as_numpy(t) for _, _, t, _ in built.network.cell(name).rows()]
        layer = model.get_layer(name)
        for variable, value in zip((*layer.trainable_weights, *layer.non_trainable_weights), rows, strict=False):
            variable.assign(value)
        if not built.graph.layers[name].trainable:
            # Read from a config, some of Keras's wrappers leave what they hold trainable.
            layer.trainable = False
    asked = built.recipe.compile.goals(list(built.graph.outputs)).values()
    metrics, weighted = (
        [[m if isinstance(m, str) else keras.metrics.deserialize(m.to_keras()) for m in part] for part in each]
        for each in ([goal.metrics for goal in asked], [goal.weighted_metrics for goal in asked])
    )
    losses = [keras.saving.deserialize_keras_object(goal.loss.to_keras()) for goal in goals]
    weights = None if all(goal.weight == 1.0 for goal in goals) else [goal.weight for goal in goals]
    several = len(goals) > 1
    model.compile(
        optimizer_twin(built.optimizer),
        losses if several else losses[0],
        weights if several or weights is None else weights[0],
        metrics if several else metrics[0],
        weighted if several else weighted[0],
    )
    return model


def hold_history(
    made: Loaded,
    tolerance: float = 1e-5,
    weights: float = 1e-4,
    options: Options | None = None,
    *,
    least: float = 1e-6,
) -> None:
    """Fit both; every value of the history within `tolerance`, final weights and predictions within `weights`.

    `least` is the scale of weights below which they are rounding, as those whose gradients are zero.
    """
    built, training = ours(made, options)
    model = twin(built)
    fit = built.recipe.fit
    assert not fit.shuffle
    feeds = {"train": training.train, "validation": training.validation}
    # Keras refuses weights of rows and of classes at once, and ours is their product: that is what it is given then.
    rows = {k: arrays(f, weighed=fit.sample_weight is not None) for k, f in feeds.items() if f}
    x, y, *weight = rows["train"]
    theirs = model.fit(
        x,
        y,
        sample_weight=weight[0] if weight else None,
        epochs=fit.epochs,
        batch_size=fit.batch_size,
        validation_data=rows.get("validation"),
        validation_batch_size=fit.validation_batch_size or fit.batch_size,
        validation_freq=fit.validation_freq,
        shuffle=False,
        class_weight=None if fit.sample_weight is not None else fit.class_weight,
        verbose=0,
    ).history
    with settings_kept():
        history = training.run()
    history.pop("learning_rate")
    assert set(history) == set(theirs)
    for name, values in theirs.items():
        known = [v for v in history[name] if v == v]
        np.testing.assert_allclose(known, values, rtol=tolerance, atol=1e-7, err_msg=name)
    for (_, path, tensor, _), value in zip(built.network.rows(), model_weights(model), strict=True):
        close(tensor, value, f"{path} after training", weights, least)
    built.network.eval()
    outputs = built.network.run(*(torch.from_numpy(one) for one in (x if isinstance(x, list) else [x]))).outputs
    found = model.predict(x, verbose=0)
    for made_here, there in zip(outputs, found if isinstance(found, list) else [found], strict=True):
        mine = as_array(made_here.detach())
        close(mine, np.asarray(there, mine.dtype), "predictions after training", weights)


def _written_out(rows: Any) -> np.ndarray:
    """Rows as Keras takes them."""
    return (rows.dense() if isinstance(rows, Bags) else rows).numpy()


def arrays(feed: Feed, *, weighed: bool) -> tuple[Any, ...]:
    """Inputs, targets and, when rows are weighed, their weights: lists where there are several."""
    xs, ys = ([_written_out(slot.rows(slice(None))) for slot in slots] for slots in (feed.xs, feed.ys))
    pair = tuple(values if len(values) > 1 else values[0] for values in (xs, ys))
    if not weighed or all(w is None for w in feed.weights):
        return pair
    # Keras can't spread a weight a row over the values of longer rows.
    weights = [
        None if w is None else w.numpy()[:, None] if w.ndim == 1 and y.ndim > 2 else w.numpy()
        for w, y in zip(feed.weights, ys, strict=True)
    ]
    return (*pair, weights if len(weights) > 1 else weights[0])


def model_weights(model: Any) -> list[np.ndarray]:
    """Weights layer by layer, those that train first, as our rows are ordered."""
    return [
        as_numpy(v.value).copy()
        for layer in model.layers
        for v in (*layer.trainable_weights, *layer.non_trainable_weights)
        if "seed_generator" not in v.path
    ]
