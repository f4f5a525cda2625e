"""Distributions that weights start from."""
