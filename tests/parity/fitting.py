"""A whole `fit` of ours beside real Keras: equal first weights, no shuffling, equal histories and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch

from tests.parity.census import held
from tests.parity.harness import close
from tests.parity.optimizers import twin as optimizer_twin
from trainer.declare import Declared
from trainer.recipe.load import Loaded
from trainer.runs.keras_config import model_config
from trainer.train.build import Built, build, real_outline
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
    built = build(recipe, real_outline(recipe, table), sets.train, torch.device("cpu"))
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


def twin(built: Built) -> Any:
    """The same model in real Keras, with our first weights and compile settings."""
    asked = built.recipe.compile
    for part in (*built.graph.layers.values(), asked.optimizer, built.loss, *asked.metrics, *asked.weighted_metrics):
        if isinstance(part, Declared):
            held(part, "trained")
    model = keras.Sequential.from_config(model_config(built.graph)["config"])
    for name in built.graph.layers:
        rows = [t.detach().numpy() for _, _, t, _ in built.network.cell(name).rows()]
        layer = model.get_layer(name)
        for variable, value in zip((*layer.trainable_weights, *layer.non_trainable_weights), rows, strict=False):
            variable.assign(value)
        if not built.graph.layers[name].trainable:
            # Read from a config, some of Keras's wrappers leave what they hold trainable.
            layer.trainable = False
    optimizer = optimizer_twin(built.optimizer)
    metrics, weighted = (
        [m if isinstance(m, str) else keras.metrics.deserialize(m.to_keras()) for m in part]
        for part in (asked.metrics, asked.weighted_metrics)
    )
    loss = keras.saving.deserialize_keras_object(built.loss.to_keras())
    model.compile(optimizer, loss, asked.loss_weights, metrics, weighted)
    return model


def hold_history(made: Loaded, tolerance: float = 1e-5, weights: float = 1e-4, options: Options | None = None) -> None:
    """Fit both; every value of the history within `tolerance`, final weights and predictions within `weights`."""
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
        close(tensor, value, f"{path} after training", weights)
    built.network.eval()
    made = as_array(built.network.run(torch.from_numpy(x))[0].detach())
    close(made, np.asarray(model.predict(x, verbose=0), made.dtype), "predictions after training", weights)


def arrays(feed: Feed, *, weighed: bool) -> tuple[np.ndarray, ...]:
    """Input, target and, when rows are weighed, their weights."""
    pair = feed.x.rows(slice(None)).numpy(), feed.y.rows(slice(None)).numpy()
    if not weighed or feed.weight is None:
        return pair
    # Keras can't spread a weight a row over the values of longer rows.
    weight = feed.weight.numpy()
    return (*pair, weight[:, None] if weight.ndim == 1 and pair[1].ndim > 2 else weight)


def model_weights(model: Any) -> list[np.ndarray]:
    """Weights layer by layer, those that train first, as our rows are ordered."""
    return [
        np.asarray(v)
        for layer in model.layers
        for v in (*layer.trainable_weights, *layer.non_trainable_weights)
        if "seed_generator" not in v.path
    ]
