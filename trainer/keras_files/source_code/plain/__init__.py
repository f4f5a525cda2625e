"""Pieces that exported source is put together from: plain PyTorch, copied into it word for word as it needs them."""
