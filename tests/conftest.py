"""Settings of all tests, and the one run of the self-test that several of them look at."""

import os

import pytest
from hypothesis import settings

from tests.fleetqual.selftested import SelfTested, selftest

# A property is no benchmark, so no example has a deadline.
settings.register_profile("fleetqual", deadline=None)
settings.load_profile("fleetqual")
#: Tests run side by side, and threads of engines that wait for others cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")

#: Files whose tests take longest, in this order: whole runs of real engines.
_LONGEST = (
    "test_selftest.py",
    "test_end_to_end.py",
    "test_planted_faults.py",
    "test_dispatch.py",
    "test_infection.py",
    "test_adapter_states.py",
    "test_adapter_requests.py",
    "test_two_versions.py",
    "test_contract.py",
    "test_documented_queries.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no worker is left alone with it at the end."""
    rank = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.fixture(scope="session")
def selftested(tmp_path_factory: pytest.TempPathFactory) -> SelfTested:
    """A few faults of each stage and depth, and two controls, on real engines."""
    return selftest(tmp_path_factory.mktemp("selftest"))
