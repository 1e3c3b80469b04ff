"""The shipped suite and the truth of the model that it was written for."""

from pathlib import Path

import pytest

from suites.loading import SHIPPED, load_suite
from suites.model_files import ModelFiles
from suites.suite import Suite


@pytest.fixture(scope="session")
def smoke_file() -> Path:
    return SHIPPED / "smoke.yaml"


@pytest.fixture(scope="session")
def smoke() -> Suite:
    return load_suite("smoke", Path())


@pytest.fixture(scope="session")
def truth(smoke: Suite) -> ModelFiles:
    assert smoke.golden_for is not None
    return ModelFiles(SHIPPED / smoke.golden_for)
