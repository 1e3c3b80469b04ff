"""Settings of all tests, and the one run of the self-test that several of them look at."""

import pytest
from hypothesis import settings

from tests.selftested import SelfTested, selftest

# A property is no benchmark, so no example has a deadline.
settings.register_profile("fleetqual", deadline=None)
settings.load_profile("fleetqual")


@pytest.fixture(scope="session")
def selftested(tmp_path_factory: pytest.TempPathFactory) -> SelfTested:
    """A few faults of each stage and depth, and two controls, on real engines."""
    return selftest(tmp_path_factory.mktemp("selftest"))
