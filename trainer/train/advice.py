"""What to change, as far as the figures of a profile say it.

A rule stands here because following it was measured to help, on the CPU; the factor beside it is what an epoch's time
fell by. Left out since they helped too little or not everywhere: bfloat16 without tiles (0.7 to 1.8), fewer metrics
(1.1), no progress bar (1.0), `shuffle: false` (1.0).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from trainer.train.profile import Figures

FEW_STEPS = 20
"Below so many steps, the first ones weigh too much."
SMALL_BATCH, MANY_ROWS = 64, 1024
SMALL_STEP, SMALL_JUDGING = 1e-3, 5e-4
"Seconds of a step, and of a batch of validation, in which bookkeeping outweighs arithmetic."

CHANGES = {
    "it was asked for": "leave out --engine plain",
    "the loss is scaled": "leave out LossScaleOptimizer and loss_scale_factor, which float32 has no need of",
    "there are penalties on outputs": "put kernel_regularizer in place of activity_regularizer, if it serves as well",
}
"What lets a model do without autograd, by why it needs it."

QUIETER = {
    "TerminateOnNaN": "without it, training ends all the same after an epoch whose loss is no number",
    "TensorBoard": "update_freq: epoch",
    "ModelCheckpoint": "save_freq: epoch",
}
"What keeps a callback from looking at every batch."


TILED_STEP, LARGE_LAYER = 5e-4, 0.2
"Seconds of a step from which bfloat16 by tiles gains, and the share of the time that a layer that gains takes."


class Rule(NamedTuple):
    """Advice for a training in which some parts take more than a share of the time."""

    parts: tuple[str, ...]
    above: float
    "Share of the whole, from 0 to 1."
    says: Callable[[Figures], str]
    "The sentence; empty when other figures or facts speak against it."


def autograd(found: Figures) -> str:
    """Measured: pima 2.7 to 4.9 for each of the changes."""
    facts = found.facts
    change = CHANGES.get(facts.autograd_since, "")
    needed = facts.dtype == "mixed_float16" and "scaled" in facts.autograd_since
    if not change or needed or facts.device != "cpu" or found.microseconds(found.seconds) > SMALL_STEP * 1e6:
        return ""
    return f"autograd finds the gradients, since {facts.autograd_since}, and small steps are faster without: {change}"


def larger_batches(found: Figures) -> str:
    """Measured: pima from 10 to 64 rows 4.4, mnist_mlp from 8 to 64 2.7 and from 32 to 128 1.9, digits likewise 1.6."""
    size = found.facts.batch_size
    if size > SMALL_BATCH or found.facts.compiled:
        return ""
    return f"fit.batch_size: {4 * size} trains more rows a second (in fewer updates, so its numbers differ)"


def drawn(found: Figures) -> str:
    """Measured: digits with RandomTranslation from 32 to 128 rows 2.4."""
    names = ", ".join(found.facts.drawn)
    if not names or found.facts.batch_size > SMALL_BATCH:
        return ""
    return f"preprocessing of {names} draws anew for each batch: a larger fit.batch_size draws for more rows at once"


def halves(found: Figures) -> str:
    """Measured: mnist_mlp 2.1, vgg32 2.3, mnist_cnn 1.5; smaller steps do not gain."""
    facts, least = found.facts, LARGE_LAYER * found.seconds
    multiplying = [path for path in facts.tiled if sum(found.layers.get(path, {}).values()) > least]
    if not multiplying or facts.dtype != "float32" or facts.device != "cpu":
        return ""
    if found.microseconds(found.seconds) < TILED_STEP * 1e6:
        return ""
    layers = ", ".join(multiplying)
    return (
        f"compile.precision: bfloat16 lets this processor multiply by tiles ({layers}); layers then hand on numbers of "
        "three digits, so results differ"
    )


def watching(found: Figures) -> str:
    """Measured: pima 3.2 without TerminateOnNaN, 4.1 with TensorBoard's `update_freq: epoch`."""
    names = [name for name in found.facts.watches if name in QUIETER]
    changes = "; ".join(f"{name}: {QUIETER[name]}" for name in names)
    return f"sums are made batch by batch for callbacks that look at every batch ({changes})" if names else ""


def saving(found: Figures) -> str:
    """Measured: pima 1.3 with either."""
    if not found.facts.saves_all or found.callbacks.get("ModelCheckpoint", 0.0) < 0.5 * found.parts["callbacks"]:
        return ""
    return "ModelCheckpoint writes the whole model after every epoch: save_best_only: true or save_weights_only: true"


def judging(found: Figures) -> str:
    """Measured: pima with a third for validation 1.7 with larger batches, 1.5 when it is done every fifth epoch."""
    facts = found.facts
    batches = found.validations * -(-facts.validation_rows // facts.validation_batch_size)
    few = facts.validation_rows > facts.validation_batch_size < MANY_ROWS
    if few and found.parts["validation"] < SMALL_JUDGING * batches:
        more = f"fit.validation_batch_size: {MANY_ROWS}"
        return f"{more} judges more rows at once (the same numbers, but for last digits)"
    return "fit.validation_freq: 5 judges every fifth epoch" if facts.validation_freq == 1 else ""


RULES = (
    Rule(("forward", "loss", "backward"), 0.3, autograd),
    Rule(("forward", "backward"), 0.5, halves),
    Rule(("data",), 0.3, drawn),
    Rule(("data", "update", "metrics", "loop"), 0.35, larger_batches),
    Rule(("metrics", "callbacks"), 0.4, watching),
    Rule(("callbacks",), 0.2, saving),
    Rule(("validation",), 0.25, judging),
)
"In the order in which they are said."


def advice(found: Figures) -> list[str]:
    """A sentence for each rule that applies; none for a training of too few steps to tell."""
    said = []
    for rule in RULES if found.steps >= FEW_STEPS else ():
        share = found.share(*rule.parts)
        sentence = rule.says(found) if share > rule.above else ""
        if sentence:
            *first, last = rule.parts
            words = f"{', '.join(first)} and {last} take" if first else f"{last} takes"
            said.append(f"{words} {share:.0%} of the time: {sentence}")
    return said
