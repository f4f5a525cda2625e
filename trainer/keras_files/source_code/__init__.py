"""A model as plain PyTorch source, without this package: `trainer export RUN --to code`."""
