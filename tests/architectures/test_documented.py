"""docs/architectures.md says what the tables say."""

from collections.abc import Callable

import pytest

from tests.architectures.documented import architectures_table, facts_line, rope_table
from tests.paths import ROOT


@pytest.mark.parametrize("made", [architectures_table, facts_line, rope_table])
def test_the_page_of_architectures_says_what_the_tables_say(made: Callable[[], str]) -> None:
    assert made() in (ROOT / "docs" / "architectures.md").read_text(encoding="utf-8")
