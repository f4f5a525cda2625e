"""Keras's own file formats."""
