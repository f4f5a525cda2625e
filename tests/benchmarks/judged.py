"""What evaluating and predicting the training rows of a run takes, as JSON.

python tests/benchmarks/judged.py RUN --data FOLDER
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from repeated import milliseconds

from trainer.runs.directory import RunDirectory
from trainer.train.job import Options
from trainer.train.scoring import evaluate, predict
from trainer.train.use import OpenRun


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path)
    asked = parser.parse_args()
    opened = OpenRun(RunDirectory(asked.run), Options(runs=asked.run.parent, data=asked.data, device="cpu"))
    feed, built, size = opened.built.feed(opened.rows("train")), opened.built, opened.recipe.fit.batch_size
    told = {
        "evaluate_ms": milliseconds(lambda: evaluate(built.network, feed, built.objective, size)),
        "predict_ms": milliseconds(lambda: predict(built.network, feed.xs)),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
