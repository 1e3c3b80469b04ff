"""One moment for all prompts: templates that print the date must render the same on every day."""

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: The time that every template gets.
FROZEN_AT = datetime.datetime(2025, 1, 2, 3, 4, 5)


class _Frozen(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return FROZEN_AT.replace(tzinfo=tz)


@contextmanager
def frozen_clock(module: Any) -> Iterator[None]:
    """Let ``module``, which imported the class ``datetime``, see ``FROZEN_AT`` as the time."""
    real = module.datetime
    module.datetime = _Frozen
    try:
        yield
    finally:
        module.datetime = real
