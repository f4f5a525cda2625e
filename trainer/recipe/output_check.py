"""Outputs of a model against targets, losses, metrics and weights, by name and by shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.errors import Problem, nearest
from trainer.layers.graph import Graph
from trainer.recipe.compile import Compile
from trainer.recipe.dataset import Dataset
from trainer.recipe.features import feature_path
from trainer.recipe.loss_check import LossCheck
from trainer.recipe.metric_check import metric_problems
from trainer.recipe.mixing_check import mixing_problems
from trainer.recipe.outline import Known
from trainer.recipe.parts import Parts

PER_OUTPUT = ("loss", "loss_weights", "metrics", "weighted_metrics")
"Options of `compile` that may be written by the name of an output."


class OutputCheck:
    """Holds what a recipe asks of its outputs against them."""

    def __init__(self, parts: Parts, outputs: tuple[str, ...], problems: list[Problem]):
        self.parts, self.outputs, self.problems = parts, outputs, problems

    def matched(self, dataset: Dataset, targets: dict[str, Known]) -> dict[str, Known] | None:
        """The targets in the order of the outputs; None where they don't go together."""
        outputs = self.outputs
        if len(outputs) == len(targets) == 1:
            return targets
        wrong = [n for n in targets if n not in outputs]
        for name in wrong:
            hint = nearest(name, outputs) or f"the outputs are {', '.join(outputs)}"
            message = f'no output of the model is called "{name}", so nothing is held against this target'
            path = feature_path(dataset, "targets", name)
            self.problems.append(Problem(message, path, hint, "graph", None, dataset.targets is not None))
        missing = [n for n in outputs if n not in targets]
        for name in missing:
            at = ("model", "outputs", outputs.index(name)) if self._says_outputs() else ("model",)
            message = f'the output "{name}" has no target'
            hint = f"add dataset.targets.{name}, or take {name} out of model.outputs"
            self.problems.append(Problem(message, at, hint, "graph"))
        return None if wrong or missing else {name: targets[name] for name in outputs}

    def _says_outputs(self) -> bool:
        return self.parts.model is not None and self.parts.model.outputs is not None

    def goals(
        self,
        dataset: Dataset,
        asked: Compile,
        graph: Graph | None,
        inputs: dict[str, Known],
        targets: dict[str, Known],
    ) -> None:
        """Hold losses and metrics against the outputs and their targets."""
        self.keys(asked)
        goals = asked.goals(self.outputs)
        for output, target in zip(self.outputs, targets.values(), strict=True):
            goal, by_name = goals[output], isinstance(asked.loss, dict)
            if goal.loss is None:
                continue
            for name, known in inputs.items():
                steps = (*feature_path(dataset, "inputs", name), "preprocess")
                self.problems += mixing_problems(known.feature.preprocess, goal.loss, steps)
            assert self.parts.model is not None
            self.problems += mixing_problems(self.parts.model.layers, goal.loss, ("model", "layers"))
            if graph is None:
                continue
            path = ("compile", "loss", *((output,) if by_name else ()))
            LossCheck(goal.loss, graph, output, target.shape, target.feature, target.classes, self.problems, path).run()
            for key, metrics in (("metrics", goal.metrics), ("weighted_metrics", goal.weighted_metrics)):
                named = isinstance(getattr(asked, key), dict)
                if len(self.outputs) > 1 and not named:
                    # Nobody knows whose they are; `keys` says so.
                    continue
                at = ("compile", key, *((output,) if named else ()))
                shape = graph.shapes[graph.outputs[output]]
                self.problems += metric_problems(metrics, goal.loss, shape, at)

    def keys(self, asked: Compile) -> None:
        """Hold what is asked by name against the names of the outputs."""
        entries = {("compile", key): getattr(asked, key, None) for key in PER_OUTPUT}
        entries[("fit", "sample_weight")] = self.parts.sample_weight
        for path, value in entries.items():
            if isinstance(value, dict):
                self._named(path, value)
            elif len(self.outputs) > 1 and path[1] in ("metrics", "weighted_metrics") and value:
                message = f"the model has several outputs ({', '.join(self.outputs)}): say which of them is measured"
                hint = f"{path[1]}: {{{self.outputs[0]}: [...]}}"
                self.problems.append(Problem(message, path, hint, "graph"))
        if self.parts.class_weight and len(self.outputs) > 1:
            message = "class_weight needs a model with one output (as in Keras)"
            hint = "weigh rows by a column instead: fit.sample_weight"
            self.problems.append(Problem(message, ("fit", "class_weight"), hint, "graph"))

    def _named(self, path: tuple[str, str], entries: Mapping[str, Any]) -> None:
        wrong = [name for name in entries if name not in self.outputs]
        for name in wrong:
            hint = nearest(str(name), self.outputs) or f"the outputs are {', '.join(self.outputs)}"
            message = f'no output of the model is called "{name}"'
            self.problems.append(Problem(message, (*path, name), hint, "graph", None, True))
        for output in self.outputs:
            if path == ("compile", "loss") and not wrong and output not in entries:
                hint = f"add {output}: mse (or another loss), or take {output} out of model.outputs"
                self.problems.append(Problem(f'the output "{output}" has no loss', path, hint, "graph"))
