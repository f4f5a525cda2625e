"""Which model file of a run is meant."""

from __future__ import annotations

from pathlib import Path

from trainer.errors import RunError
from trainer.runs.directory import RunDirectory


def model_source(directory: RunDirectory, checkpoint: str | None) -> Path | bytes:
    """The model file of a run: `model.h5`, the last checkpoint of one that is not complete, or what is named.

    Raises:
        RunError: there is no such file yet.
    """
    if checkpoint == "last" and not directory.has_model():
        data, _ = directory.load_checkpoint()
        if data is not None:
            return data
    return model_path(directory, checkpoint)


def model_path(directory: RunDirectory, checkpoint: str | None) -> Path:
    """The file that holds a run's model."""
    if checkpoint in (None, "last"):
        path = directory.path / "model.h5"
    else:
        path = directory.path / "checkpoints" / f"{checkpoint}.h5"
        beside = [directory.path / f"{checkpoint}.h5", directory.path / str(checkpoint)]
        path = next((p for p in beside if not path.exists() and p.exists()), path)
    if not path.is_file() or directory.path.resolve() not in path.resolve().parents:
        have = [str(p.relative_to(directory.path)) for p in sorted(directory.path.glob("**/*.h5"))]
        if checkpoint not in (None, "last"):
            hint = f"there are {', '.join(have)}" if have else "the run has no checkpoints"
        elif directory.record().get("state") == "done":
            hint = "its folds were trained and no final model; set fit.kfold.final to true for one"
        else:
            hint = _unfinished(directory) + (", or use `--checkpoint last`" if have else "")
        raise RunError(f"the run {directory.label} has no {path.name}", hint=hint)
    return path


def _unfinished(directory: RunDirectory) -> str:
    """What to do with a run that has no model yet."""
    record = directory.record()
    if record.get("state") != "failed":
        return "it is not complete: `trainer resume` it"
    why = str(record.get("error") or "log.txt says why").partition("\n")[0]
    return f"it failed: {why}; mend that and `trainer fit` it again"
