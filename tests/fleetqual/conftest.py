"""Fixtures of other rooms that tests of the front door use too."""

from tests.analysis.conftest import bench, judged
from tests.cluster.conftest import right_matrix, supervisor, write_matrix

__all__ = ["bench", "judged", "right_matrix", "supervisor", "write_matrix"]
