"""Copies of a model's files with one fault each, for the self-test; all else is unchanged."""
