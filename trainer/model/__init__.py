"""From declared layers to a PyTorch module."""
