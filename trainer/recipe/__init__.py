"""The recipe language: text with positions, schema, checks."""
