"""A profile as tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.cli.common import console
from trainer.wording import clean

MOST_LAYERS = 12
"Layers in the table, those that take longest; profile.json has them all."


def show(profile: Mapping[str, Any]) -> None:
    """The parts of a step, the layers that take longest, callbacks, and advice, on standard error."""
    from rich import box
    from rich.table import Table

    table = Table("where the time went", box=box.SIMPLE_HEAD)
    for heading in ("share", "µs a step", "seconds"):
        table.add_column(heading, justify="right")
    layers = sorted(profile["layers"].items(), key=lambda item: -sum(way["seconds"] for way in item[1].values()))
    for part, spent in profile["parts"].items():
        table.add_row(part, *cells(spent))
        for path, ways in layers[:MOST_LAYERS]:
            if ways.get(part, spent) is not spent and ways[part]["seconds"]:
                table.add_row(f"  {clean(path)}", *cells(ways[part]), style="dim")
        if part == "callbacks":
            for name, own in profile["callbacks"].items():
                table.add_row(f"  {name}", *cells(own), style="dim")
    out = console(err=True)
    out.print(table)
    for line in (*totals(profile), *profile["advice"]):
        out.print(line)


def cells(spent: Mapping[str, float]) -> tuple[str, ...]:
    """Share, time a step and seconds, as text."""
    return f"{spent['share']:.1%}", f"{spent['microseconds_a_step']:,.1f}", f"{spent['seconds']:.3f}"


def totals(profile: Mapping[str, Any]) -> list[str]:
    """Speed, how gradients came about, and what the run did beside training."""
    steps, autograd = profile["steps"], profile["autograd_steps"]
    each = profile["seconds"] * 1e6 / max(steps, 1)
    lines = [
        f"{steps:,} steps, {each:,.1f} µs each: "
        f"{profile['steps_a_second']:,.0f} steps and {profile['rows_a_second']:,.0f} rows a second",
    ]
    if len(profile["layers"]) > MOST_LAYERS:
        lines.append(f"the {MOST_LAYERS} layers that take longest are shown; profile.json has all")
    if autograd:
        since = profile["autograd_since"] or "the shapes of these batches need it"
        lines.append(f"autograd found the gradients of {autograd:,} steps, since {since}")
    rest = profile["run_seconds"] - profile["seconds"]
    return [*lines, f"training took {profile['seconds']:.2f} s; reading, building, judging and writing {rest:.2f} s"]
