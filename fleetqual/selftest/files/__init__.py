"""Faulty copies of a model's files, for the self-test: everything but the fault stays as it was."""
