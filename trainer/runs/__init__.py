"""Run directories, history and checkpoints."""
