"""Keras-style models trained on PyTorch from one YAML file, without code."""

__version__ = "0.1.0"
