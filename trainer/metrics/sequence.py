"""How far decoded sequences are from their labels.

As in the CTC loss, class 0 is the blank: symbols count from 1, and 0 fills shorter labels up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.errors import DataError
from trainer.lazy import torch
from trainer.losses.shaping import leading, no_nan
from trainer.metrics.base import Metric, State, zeros

if TYPE_CHECKING:
    from torch import Tensor


class CharacterErrorRate(Metric, keras=""):
    """Edits that turn what a CTC model says, greedily decoded, into the label, over the label's symbols; of all rows.

    An edit inserts, removes or replaces a symbol (Levenshtein, 1966), so the rate can be above 1. Greedy decoding takes
    the likeliest class of each step, joins repeats and drops the blank, class 0 (Graves et al., 2006). Masked steps are
    blanks.
    """

    def start(self, device: torch.device | str = "cpu") -> State:
        return {"edits": zeros(device), "symbols": zeros(device)}

    def update(
        self,
        state: State,
        y_true: Tensor,
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        if y_pred.dim() != 3 or y_true.dim() != 2 or len(y_true) != len(y_pred):
            wanted = "expected a target of shape (batch, symbols) and an output of shape (batch, steps, classes)"
            raise DataError(f"{wanted}, found {tuple(y_true.shape)} and {tuple(y_pred.shape)}", code="shape")
        classes = y_pred.argmax(-1)
        found = collapsed(classes if mask is None else classes * mask)
        label = collapsed(y_true.long(), merge_repeated=False)
        edits, symbols = edit_distance(found, label), (label >= 0).sum(1)
        if sample_weight is not None:
            weight = leading(sample_weight, edits)
            edits, symbols = edits * weight, symbols * weight
        state["edits"].add_(edits.sum())
        state["symbols"].add_(symbols.sum())

    def result(self, state: State) -> Tensor:
        return no_nan(state["edits"], state["symbols"])


def collapsed(classes: Tensor, *, blank: int = 0, merge_repeated: bool = True) -> Tensor:
    """Class numbers without blanks, a run of one class (`merge_repeated`) as one symbol; -1 fills rows up.

    Shape: (batch, steps) -> (batch, steps)
    """
    dropped = classes == blank
    if merge_repeated:
        dropped[:, 1:] |= classes[:, 1:] == classes[:, :-1]
    order = dropped.int().argsort(dim=1, stable=True)
    return classes.masked_fill(dropped, -1).gather(1, order)


def edit_distance(found: Tensor, wanted: Tensor) -> Tensor:
    """The fewest insertions, removals and replacements that make each row of one the row of the other.

    Rows of symbols from 0 on, filled up with -1.

    Shape: (batch, m), (batch, n) -> (batch,)
    """
    lengths = torch.arange(found.shape[1] + 1, device=found.device)
    # Distances of every beginning of `found` from the first symbols of `wanted`, one symbol more in each turn.
    row = lengths.expand(len(found), -1)
    for symbol in wanted.unsqueeze(2).unbind(1):
        replaced = row[:, :-1] + (found != symbol)
        more = torch.cat([row[:, :1] + 1, torch.minimum(replaced, row[:, 1:] + 1)], 1)
        # The removals to the left of a place, all at once: the least of d[i] + (place - i).
        more = (more - lengths).cummin(1).values + lengths
        row = torch.where(symbol >= 0, more, row)
    return row.gather(1, (found >= 0).sum(1, keepdim=True)).squeeze(1)
