"""Elementwise functions and softmaxes between layers."""
