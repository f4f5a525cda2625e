"""What each optimisation brings: rows through `trainer fit` with one switched off at a time.

    python tests/benchmarks/ablation.py --data FOLDER
    python tests/benchmarks/ablation.py --rows digits --epochs 2 --rounds 1 --switches "without heap"
    python tests/benchmarks/ablation.py --data FOLDER --switches "plain engine" --set model.dtype=float64

A ratio above 1 says how many times slower an epoch is without it; in brackets how far the loss of the last epoch is
from that with everything on, as a share of it: the same numbers but for the order of sums.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from processes import HERE, ROOT, TRAINER, fit, machine, run, script
from rows import ROWS, Row
from tables import amount, markdown

from trainer.switches import SWITCHES as KNOWN
from trainer.switches import VARIABLE


@dataclass(frozen=True)
class Switch:
    """One optimisation that is left out."""

    name: str
    arguments: tuple[str, ...] = ()
    "What is added to the command line."
    environment: Mapping[str, str] = field(default_factory=dict)
    replace: tuple[tuple[str, str, str], ...] = ()
    "(module, name, expression): values put into our modules beforehand, where there is no option."

    def command(self) -> Sequence[str]:
        """What is run in place of `trainer`."""
        if not self.replace:
            return TRAINER
        return (sys.executable, str(HERE / "patched.py"), json.dumps(self.replace))

    def known(self, help_text: str) -> bool:
        """Whether `trainer fit` has its options."""
        return all(a in help_text for a in self.arguments if a.startswith("--"))


_FEED, _HALF = "trainer.train.feed", ("--set", "model.dtype=mixed_bfloat16")
SWITCHES = (
    Switch("plain engine", ("--engine", "plain")),
    # What --engine plain leaves out is not measured twice, and there are tiles for bfloat16 alone.
    *(Switch(f"without {name}", environment={VARIABLE: name}) for name in KNOWN if name not in ("hand", "tiles")),
    Switch("always one thread", replace=(("trainer.train.devices", "SMALL_STEP", "1 << 62"),)),
    Switch("LSTM without oneDNN", replace=(("trainer.layers.recurrent_fused", "has_onednn", "lambda: False"),)),
    Switch("rows made each step", replace=((_FEED, "RESIDENT_BYTES", "-1"),)),
    Switch("rows gathered each step", replace=((_FEED, "EPOCH_COPY_BYTES", "-1"),)),
    Switch("bfloat16", _HALF),
    Switch("bfloat16 without tiles", _HALF, {VARIABLE: "tiles"}),
)
"""All of `trainer.switches`, and what happens instead of others; the last two are about an optimisation to ask for."""
ALL_ON = Switch("all on")


@dataclass
class Runs:
    """A row under one switch."""

    epoch_ms: list[float] = field(default_factory=list)
    loss: float = 0.0
    "Of the last epoch."


def measure(
    row: Row, switches: Sequence[Switch], epochs: int | None, rounds: int, data: Path | None
) -> tuple[dict[str, Runs], str]:
    """A row under every switch, which take turns; and where."""
    where = ""
    found = {switch.name: Runs() for switch in switches}
    with tempfile.TemporaryDirectory() as scratch:
        if row.drawn:
            kind, *more = row.drawn
            script("drawn.py", kind, f"{scratch}/{kind}.npz", *more)
            data = Path(scratch)
        for _ in range(rounds):
            for switch in switches:
                kept = found[switch.name]
                record = run_once(row, switch, epochs or row.epochs, data)
                kept.epoch_ms.append(1e3 * statistics.median(record["epoch_seconds"][1:]))
                kept.loss, where = record["figures"]["history.loss.last"], machine(record)
    return found, where


def run_once(row: Row, switch: Switch, epochs: int, data: Path | None) -> dict[str, Any]:
    """The run.json of a row under a switch."""
    environment = {"PYTHONPATH": str(ROOT), **switch.environment}
    options = {"command": switch.command(), "more": switch.arguments, "environment": environment}
    return fit(row.recipe, epochs, row.sets, data, **options)[1]


def compared(found: Mapping[str, Runs]) -> dict[str, dict[str, float]]:
    """Milliseconds of an epoch, how many times those with all on, and how far the last loss is off (of its size)."""
    times = {name: statistics.median(runs.epoch_ms) for name, runs in found.items()}
    base, loss = times[ALL_ON.name], found[ALL_ON.name].loss
    return {
        name: {"epoch_ms": time, "times": time / base, "loss_off": abs(found[name].loss - loss) / abs(loss)}
        for name, time in times.items()
    }


def table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Rows down, switches across: milliseconds with everything on, then how many times that and how far the loss is."""
    names = [name for name in next(iter(results.values())) if name != ALL_ON.name]
    rows = [
        [row, amount(by[ALL_ON.name]["epoch_ms"]), *(f"{by[n]['times']:.2f} ({by[n]['loss_off']:.0e})" for n in names)]
        for row, by in results.items()
    ]
    return markdown(["row", "all on: ms an epoch", *(f"{name}, × (loss off)" for name in names)], rows)


def main() -> None:
    """The command line."""
    rows = [name for name, row in ROWS.items() if not row.folds]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", default=rows, choices=rows)
    parser.add_argument("--switches", nargs="*", default=[s.name for s in SWITCHES], choices=[s.name for s in SWITCHES])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="At least 2; by default each row its own.")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="For every run.")
    parser.add_argument("--data", type=Path, default=os.environ.get("TRAINER_DATA") or None)
    parser.add_argument("--json", type=Path, help="Also write the results here.")
    asked = parser.parse_args()
    if asked.epochs is not None and asked.epochs < 2:
        parser.error("--epochs: the first epoch is left out, so there must be 2")
    options = run([*TRAINER, "fit", "--help"]).out
    wanted = [s for s in SWITCHES if s.name in asked.switches]
    switches = [s for s in wanted if s.known(options)]
    results, where = {}, ""
    for name in asked.rows:
        row = replace(ROWS[name], sets=(*ROWS[name].sets, *asked.set))
        found, where = measure(row, [ALL_ON, *switches], asked.epochs, asked.rounds, asked.data)
        results[name] = compared(found)
        print(name, json.dumps(results[name]), file=sys.stderr, flush=True)
    missing = [s.name for s in wanted if s not in switches]
    print(table(results))
    print(f"\n{where}. {asked.rounds} rounds." + (f" No option yet for: {', '.join(missing)}." if missing else ""))
    if asked.json:
        kept = {"machine": where, "rounds": asked.rounds, "set": asked.set, "missing": missing, "rows": results}
        asked.json.write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
