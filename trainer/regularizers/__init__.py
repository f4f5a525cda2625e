"""Penalties on weights and outputs that are added to the loss."""
