"""A small mutation test of the code that judges: ``python -m tests.mutants``."""
