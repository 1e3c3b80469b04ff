"""A suite derived from a model's own files: nothing in it is written by hand."""

from suites.derive.suite import derive_suite

__all__ = ["derive_suite"]
