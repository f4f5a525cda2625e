"""What each layer is in plain PyTorch, a file a family; importing them fills the table of `piece.py`."""
