"""The command line of trainer with names of modules replaced first: an optimisation without a switch is left out so.

python tests/benchmarks/patched.py '[["trainer.train.devices", "SMALL_STEP", "0"]]' fit recipes/digits.yaml
"""

from __future__ import annotations

import importlib
import json
import sys

from trainer.cli.app import main


def replace(module: str, name: str, expression: str) -> None:
    """Give a name of a module another value; it must be there."""
    found = importlib.import_module(module)
    getattr(found, name)
    setattr(found, name, eval(expression, {"module": found}))


if __name__ == "__main__":
    replacements, *arguments = sys.argv[1:]
    for replacement in json.loads(replacements):
        replace(*replacement)
    sys.argv = ["trainer", *arguments]
    main()
