"""One optimizer for some weights and others for others. https://keras.io/api/optimizers/"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, field_validator

from trainer.block import Block
from trainer.errors import RecipeError
from trainer.optimizers.base import Optimizer, UpdateRule
from trainer.options import PositiveFloat, Str, complaint, raise_all, shown


class OptimizerMap(Block):
    """Which optimizer moves which weights."""

    default_optimizer: UpdateRule
    "The optimizer of weights that nothing below names."
    optimizer_map: Annotated[dict[Str, UpdateRule], Field(default_factory=dict)]
    "Regular expression, for the whole path of a weight (`dense_1/kernel`, `dense_1/.*`), to its optimizer."

    @field_validator("optimizer_map")
    @classmethod
    def _expressions(cls, given: dict[str, UpdateRule]) -> dict[str, UpdateRule]:
        for pattern in given:
            try:
                re.compile(pattern)
            except re.error as error:
                raise_all([(complaint(f"{shown(pattern)} is no regular expression: {error}", on_key=True), (pattern,))])
        return given

    def rules(self) -> list[UpdateRule]:
        """The optimizers, the default one last."""
        return [*self.optimizer_map.values(), self.default_optimizer]

    def which(self, path: str) -> int:
        """The number in `rules` of the optimizer of a weight.

        Raises:
            RecipeError: several expressions fit it.
        """
        patterns = list(self.optimizer_map)
        if path in patterns:
            return patterns.index(path)
        found = [i for i, pattern in enumerate(patterns) if re.fullmatch(pattern, path)]
        if len(found) > 1:
            raise RecipeError(
                f"{path} fits several expressions of optimizer_map: {', '.join(patterns[i] for i in found)}",
                path=("compile", "optimizer", "MultiOptimizer", "optimizer_map"),
                code="optimizer-map",
            )
        return found[0] if found else len(patterns)


class MultiOptimizer(Optimizer):
    """Hands each weight to the optimizer that its path asks for.

    The learning rate in the history is that of the default optimizer; callbacks can't set it.
    """

    aliases = ("multioptimizer",)

    optimizer_map: OptimizerMap
    "{default_optimizer: adam, optimizer_map: {dense_1/.*: sgd}}"
    loss_scale_factor: PositiveFloat | None = None
    "Takes the place of every optimizer's own."

    def rules(self) -> list[UpdateRule]:
        """The optimizers as they are used, the default one last."""
        scale = {"loss_scale_factor": self.loss_scale_factor}
        return [rule.model_copy(update=scale) for rule in self.optimizer_map.rules()]

    def keras_config(self) -> dict[str, Any]:
        given = self.optimizer_map
        inner = {
            "default_optimizer": given.default_optimizer.to_keras(),
            "optimizer_map": {pattern: rule.to_keras() for pattern, rule in given.optimizer_map.items()},
        }
        described = {"module": self.keras, "class_name": "OptimizerMap", "config": inner, "registered_name": None}
        return {"optimizer_map": described, "loss_scale_factor": self.loss_scale_factor, "name": self.name}
