"""The loop, evaluation, prediction and folds."""
