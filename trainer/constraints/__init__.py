"""Projections applied to weights after each update."""
