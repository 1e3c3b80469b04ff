"""Tests in two halves, so that all those of a file are judged at once.

A judged catalog costs about the same for one run and for thirty. So the first half of a test, up to
its ``yield``, changes a clean bench; all benches of the file are judged in one catalog, each as a
run of its own; the second half looks at its own run::

    @arranged
    def test_a_wrong_prompt_is_divergent(bench: Bench) -> Halves:
        bench.attempt.change("template", "template/plain", prompt_text="other")
        found = yield
        assert found.verdict("template") == "divergent"

``pytest.mark.parametrize`` stands below ``arranged``.
"""

import inspect
from collections.abc import Callable, Generator
from typing import Any

import pytest

from tests.analysis.conftest import Judged
from tests.analysis.handmade import Bench

Halves = Generator[None, Judged, None]


def arranged(test: Callable[..., Halves]) -> Callable[..., None]:
    """Make a test of a generator that arranges, yields and asserts."""

    def second_half(
        arrangements: "Arrangements", request: pytest.FixtureRequest, **_: object
    ) -> None:
        arrangements.finish(request.node.name)

    names = list(inspect.signature(test).parameters)
    assert names[0] == "bench", "an arranged test takes a bench, then its parameters"
    second_half.__name__, second_half.__doc__ = test.__name__, test.__doc__
    second_half.__module__ = test.__module__
    second_half.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            for name in ("arrangements", "request", *names[1:])
        ]
    )
    second_half.pytestmark = list(getattr(test, "pytestmark", []))  # type: ignore[attr-defined]
    second_half.first_half = test  # type: ignore[attr-defined]
    return second_half


class Arrangements:
    """The chosen tests of one file, each run up to its ``yield``, and what was judged of them."""

    def __init__(self, request: pytest.FixtureRequest, together: Callable[..., Any]) -> None:
        chosen = {
            item.name: item
            for item in request.session.items
            if isinstance(item, pytest.Function)
            and item.module is request.module
            and hasattr(item.function, "first_half")
        }
        self._halves: dict[str, Halves] = {}
        self._failed: dict[str, Exception] = {}
        self._judged: dict[str, Judged] = together(
            lambda bench, name: self._arrange(bench, chosen[name]), chosen
        )

    def _arrange(self, bench: Bench, item: pytest.Function) -> None:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        halves = self._halves[item.name] = item.function.first_half(bench, **parameters)
        try:
            next(halves)
        except Exception as error:
            # It is the failure of this test alone, and is raised where that runs.
            self._failed[item.name] = error

    def finish(self, name: str) -> None:
        """Run a test's second half.

        Raises:
            Exception: what either half raised.
            RuntimeError: the test yields more than once.
        """
        if name in self._failed:
            raise self._failed[name]
        try:
            self._halves[name].send(self._judged[name])
        except StopIteration:
            return
        raise RuntimeError(f"{name} yields more than once")
