"""An optimizer's state as Keras lists it, in every generation of its files, and as an `Updater` keeps it.

Ours is by slot and weight (`momentum/dense/kernel`), beside `iteration`, `learning_rate` and, where the loss is scaled,
`step_counter` and `dynamic_scale`; of a MultiOptimizer, `NUMBER/…` for each of its optimizers. Keras 3 has a list:

    [iteration, learning_rate unless a schedule gives it, averages, accumulated gradients, slots, Nadam's product]

with slots weight by weight as far as `interleaved` says, then slot by slot. TensorFlow's Keras up to 2.10, and Keras 1
and 2, had them slot by slot throughout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from trainer.errors import FileError
from trainer.lazy import np
from trainer.naming import snake_case
from trainer.optimizers.adafactor import Adafactor
from trainer.optimizers.adam import Nadam
from trainer.optimizers.base import Optimizer, UpdateRule
from trainer.optimizers.ftrl import Ftrl
from trainer.optimizers.loss_scale import LossScaleOptimizer
from trainer.optimizers.multi import MultiOptimizer
from trainer.optimizers.powers import nesterov_momenta
from trainer.runs.weights_image import Kept
from trainer.schedules.base import ConstantRate

if TYPE_CHECKING:
    import numpy

State = Mapping[str, "numpy.ndarray"]
"""What `Updater.state()` gives."""
Named = tuple[str, "numpy.ndarray"]
"""A variable of an optimizer and what a file calls it."""
SCALE = ("step_counter", "dynamic_scale")
COUNTERS = (*SCALE, "iteration", "learning_rate", "swapped")
"""What a state holds beside slots."""


def variables(optimizer: Optimizer, state: State, model: str = "", *, inside: bool = False) -> list[Named]:
    """Every variable of an optimizer in Keras 3's order, under its names; `model` begins the paths of weights.

    `inside` is for the optimizer in a LossScaleOptimizer, of which Keras forgets what its rule makes for itself.
    """
    if isinstance(optimizer, LossScaleOptimizer):
        name = _name(optimizer)
        own = [(f"{name}/{slot}", _number(state[slot], slot)) for slot in SCALE]
        inner = variables(optimizer.inner_optimizer, _inner(state), model, inside=True)
        return [*_head(name, 0, 0.0), *own, *inner]
    if isinstance(optimizer, MultiOptimizer):
        calls = max((int(value) for key, value in state.items() if key.endswith("/iteration")), default=0)
        found = _head(_name(optimizer), calls, 0.0)
        for number, rule in enumerate(optimizer.rules()):
            found += _held(rule, state, number, model, inside=inside)
        return found
    assert isinstance(optimizer, UpdateRule)
    return _of_rule(optimizer, state, model, inside=inside)


def _inner(state: State) -> dict[str, numpy.ndarray]:
    return {key: value for key, value in state.items() if key not in SCALE}


def _of_rule(rule: UpdateRule, state: State, model: str, *, inside: bool) -> list[Named]:
    name, prefix = _name(rule), f"{model}_" if model else ""
    found = _head(name, int(state["iteration"]), float(state["learning_rate"]) if "learning_rate" in state else None)
    for key in _rows(rule, state, inside=inside):
        slot, _, path = key.partition("/")
        found.append((f"{name}/{prefix}{path.replace('/', '_')}_{slot}", state[key]))
    if isinstance(rule, Nadam) and not inside:
        updates = int(state["iteration"]) // (rule.gradient_accumulation_steps or 1)
        product = nesterov_momenta(rule.beta_1, updates)[2] if updates else 1.0
        found.append((f"{name}/u_product", np.array(product, "float32")))
    return found


def _head(name: str, iteration: int, rate: float | None) -> list[Named]:
    counted: list[Named] = [(f"{name}/iteration", np.array(iteration, "int32"))]
    return counted if rate is None else [*counted, (f"{name}/learning_rate", np.array(rate, "float32"))]


def _rows(rule: UpdateRule, state: State, *, inside: bool) -> list[str]:
    """What of a rule's state is in Keras's list: all but counters, and but Adafactor's idle numbers in a wrapper."""
    idle = isinstance(rule, Adafactor) and inside
    return [key for key in state if key not in COUNTERS and not (idle and _is_number(state[key]))]


def _held(rule: UpdateRule, state: State, number: int, model: str, *, inside: bool) -> list[Named]:
    """The variables of one of several optimizers; Keras lists those that have no weights too, as they were made."""
    prefix = f"{number}/"
    own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if own:
        return _of_rule(rule, own, model, inside=inside)
    rate = rule.learning_rate.rate(0) if isinstance(rule.learning_rate, ConstantRate) else None
    return _head(_name(rule), 0, rate)


def _number(value: numpy.ndarray, slot: str) -> numpy.ndarray:
    return np.array(value, "int32" if slot == "step_counter" else "float32")


def _name(optimizer: Optimizer) -> str:
    return optimizer.name or snake_case(type(optimizer).__name__)


def kept(optimizer: Optimizer, state: State, place: str = "optimizer", *, inside: bool = False) -> list[Kept]:
    """What a `.keras` archive holds of an optimizer: all of its variables, and once more those of each one inside."""
    found = [Kept(place, _name(optimizer), [values for _, values in variables(optimizer, state, inside=inside)])]
    if isinstance(optimizer, LossScaleOptimizer):
        return found + kept(optimizer.inner_optimizer, _inner(state), f"{place}/inner_optimizer", inside=True)
    if isinstance(optimizer, MultiOptimizer):
        counts: dict[str, int] = {}
        for number, rule in enumerate(optimizer.rules()):
            base = snake_case(type(rule).__name__)
            counts[base] = counts.get(base, -1) + 1
            numbered = f"{base}_{counts[base]}" if counts[base] else base
            held = _held(rule, state, number, "", inside=inside)
            found.append(Kept(f"{place}/optimizers/{numbered}", _name(rule), [values for _, values in held]))
    return found


def slots_of(
    optimizer: Optimizer, fresh: State, saved: Sequence[Named], version: str | None = None
) -> dict[str, numpy.ndarray]:
    """The state of an optimizer in a file, in the form that `Updater.load_state` takes.

    `fresh` is the state of a new one over the same weights (`Updater.state()`), which says what belongs to it;
    `saved` the names and arrays of the file in its order, `version` the release of Keras that wrote it. Weights run in
    the order of the model's trainable weights. Counters that the file lacks stay as in `fresh`.

    Raises:
        FileError: the file's state is that of another optimizer or of other weights.
    """
    saved = _once(saved)
    when = generation([name for name, _ in saved], version)
    arrays = [values for _, values in saved]
    if when == "now":
        return _Modern(arrays).read(optimizer, fresh)
    return _slot_by_slot(optimizer, fresh, saved)


def _once(saved: Sequence[Named]) -> Sequence[Named]:
    """Without what an archive holds twice: the optimizer inside a LossScaleOptimizer, which lists its variables too."""
    outer = [(name, values) for name, values in saved if not name.startswith("inner_optimizer/")]
    return outer if len(outer) > 4 else saved


def generation(names: Sequence[str], version: str | None) -> str:
    """`now` for Keras 2.11 and later, which list slots weight by weight; `old` for those before."""
    last = {name.removesuffix(":0").rpartition("/")[2] for name in names}
    if {"iter", "iterations"} & last:
        return "old"
    if "iteration" in last:
        return "now"
    if version is None:
        return "now" if all(name.isdigit() for name in last) else "old"
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    return "now" if (int(major or 0), int(minor or 0)) >= (2, 11) else "old"


class _Modern:
    """The list of variables of Keras 2.11 and later, read from its front."""

    def __init__(self, arrays: Sequence[numpy.ndarray]):
        self.arrays = list(arrays)

    def read(self, optimizer: Optimizer, fresh: State) -> dict[str, numpy.ndarray]:
        """The state; all of the list is used up."""
        found = self._inside(optimizer, fresh)
        if self.arrays:
            raise _misfit(f"{len(self.arrays)} arrays more than this optimizer has")
        return found

    def _inside(self, optimizer: Optimizer, fresh: State, *, inside: bool = False) -> dict[str, numpy.ndarray]:
        if isinstance(optimizer, LossScaleOptimizer):
            self._take(2)
            steps, scale = self._take(2)
            counted = {"step_counter": _counted(steps), "dynamic_scale": _scalar(scale, "dynamic_scale")}
            return counted | self._inside(optimizer.inner_optimizer, _inner(fresh), inside=True)
        if isinstance(optimizer, MultiOptimizer):
            self._take(2)
            return dict(self._several(optimizer, fresh, inside=inside))
        assert isinstance(optimizer, UpdateRule)
        return self._rule(optimizer, fresh, inside=inside, alone=True)

    def _several(self, optimizer: MultiOptimizer, fresh: State, *, inside: bool) -> Iterator[Named]:
        for number, rule in enumerate(optimizer.rules()):
            prefix = f"{number}/"
            own = {key.removeprefix(prefix): value for key, value in fresh.items() if key.startswith(prefix)}
            if own:
                read = self._rule(rule, own, inside=inside, alone=False)
                yield from ((prefix + key, value) for key, value in read.items())
            else:
                self._take(1 + isinstance(rule.learning_rate, ConstantRate))

    def _rule(self, rule: UpdateRule, fresh: State, *, inside: bool, alone: bool) -> dict[str, numpy.ndarray]:
        """The variables of a rule. Before Keras 3 one that stands alone may lack the learning rate or Nadam's product,
        and SGD has momenta that it does not use."""
        found, rows = dict(fresh), _rows(rule, fresh, inside=inside)
        found["iteration"] = _counted(*self._take(1))
        product = isinstance(rule, Nadam) and not inside
        more = len(self.arrays) - len(rows) if alone else product + ("learning_rate" in fresh)
        unused = type(rule).__name__ == "SGD" and not rule.slots()
        if more > 0 and (more > product or "learning_rate" in fresh) and _is_number(self.arrays[0]):
            (rate,) = self._take(1)
            more -= 1
            if "learning_rate" in fresh:
                found["learning_rate"] = _scalar(rate, "learning_rate")
        for key in rows:
            (values,) = self._take(1)
            found[key] = _fitting(key, values, fresh[key])
        if product and more > 0:
            self._take(1)
        if alone and unused:
            self.arrays.clear()
        return found

    def _take(self, count: int) -> list[numpy.ndarray]:
        if len(self.arrays) < count:
            raise _misfit("too few arrays for this optimizer and these weights")
        taken, self.arrays = self.arrays[:count], self.arrays[count:]
        return taken


def _slot_by_slot(optimizer: Optimizer, fresh: State, saved: Sequence[Named]) -> dict[str, numpy.ndarray]:
    """The lists of Keras 1, Keras 2 up to 2.10 and tf.keras's OptimizerV2, of weights in our layouts and our order."""
    paths = trained_paths(fresh)
    iteration, columns = columns_of(optimizer, len(paths), [values for _, values in saved])
    found = {f"{slot}/{path}": values for slot, row in columns.items() for path, values in zip(paths, row, strict=True)}
    return filled(fresh, iteration, found)


def trained_paths(fresh: State) -> list[str]:
    """The weights of a state, in its order; none where the optimizer has no slots."""
    return list(dict.fromkeys(key.partition("/")[2] for key in fresh if key not in COUNTERS))


def columns_of(
    optimizer: Optimizer, count: int, arrays: Sequence[numpy.ndarray]
) -> tuple[numpy.ndarray | None, dict[str, Sequence[numpy.ndarray]]]:
    """(number of steps, slots of `count` weights) from a list that has counters, then each slot of all weights.

    Raises:
        FileError: it is no such list.
    """
    if not isinstance(optimizer, UpdateRule):
        raise _misfit(f"{type(optimizer).__name__} is of another time than the file")
    slots = optimizer.slots()
    leading = _leading(arrays, count) if slots else _scalars(arrays)
    iteration = _counted(arrays[0]) if leading else None
    # Without momentum SGD has momenta as well, and Adam without amsgrad something in the place of its third slot.
    rest = arrays[leading:] if slots else ()
    if len(rest) < len(slots) * count:
        raise _misfit(f"{len(rest)} arrays, expected {' and '.join(slots)} of {count} weights")
    if isinstance(optimizer, Ftrl):
        return iteration, {slot: rest[i : len(slots) * count : len(slots)] for i, slot in enumerate(slots)}
    return iteration, {slot: rest[i * count : (i + 1) * count] for i, slot in enumerate(slots)}


def filled(fresh: State, iteration: numpy.ndarray | None, found: State) -> dict[str, numpy.ndarray]:
    """A fresh state with what was found in a file.

    Raises:
        FileError: something has another shape, or is none of it.
    """
    made = dict(fresh)
    if iteration is not None:
        made["iteration"] = iteration
    for key, values in found.items():
        if key not in fresh:
            raise _misfit(f"{key} is in the file alone")
        made[key] = _fitting(key, values, fresh[key])
    return made


def _leading(arrays: Sequence[numpy.ndarray], count: int) -> int:
    """How many numbers stand before the slots of so many weights (a counter, Nadam's product)."""
    for leading in range(min(_scalars(arrays), 2), -1, -1):
        if count and (len(arrays) - leading) % count == 0:
            return leading
    raise _misfit(f"{len(arrays)} arrays, which are no slots of {count} weights")


def _scalars(arrays: Sequence[numpy.ndarray]) -> int:
    return next((i for i, values in enumerate(arrays) if not _is_number(values)), len(arrays))


def _is_number(values: numpy.ndarray) -> bool:
    return values.shape == ()


def _counted(values: numpy.ndarray) -> numpy.ndarray:
    if values.shape not in ((), (1,)) or not np.isfinite(values).all() or not 0 <= int(values.reshape(())) < 1 << 62:
        raise _misfit(f"expected a count of steps, found an array of shape {values.shape}")
    return np.array(int(values.reshape(())), "int64")


def _scalar(values: numpy.ndarray, what: str) -> numpy.ndarray:
    if values.shape != ():
        raise _misfit(f"expected the number {what}, found an array of shape {values.shape}")
    return np.array(float(values), "float64")


def _fitting(key: str, values: numpy.ndarray, fresh: numpy.ndarray) -> numpy.ndarray:
    if values.shape != fresh.shape:
        raise _misfit(f"{key} has shape {values.shape}, expected {fresh.shape}")
    return values.astype(fresh.dtype)


def _misfit(what: str) -> FileError:
    return FileError(
        f"the optimizer's state does not belong to this model and optimizer: {what}",
        hint="train on with a fresh one: import the file with its weights alone",
        code="optimizer-state",
    )
