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
from pathlib import Path
from typing import Self

import pytest

from analysis.judging.catalog import open_catalog
from runner.stored.store import Store
from tests.analysis.conftest import Judged
from tests.analysis.handmade import RUN, Bench

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

    def __init__(self, request: pytest.FixtureRequest, root: Path) -> None:
        self._halves: dict[str, Halves] = {}
        self._failed: dict[str, Exception] = {}
        self._runs: dict[str, str] = {}
        for item in request.session.items:
            if (
                isinstance(item, pytest.Function)
                and item.module is request.module
                and hasattr(item.function, "first_half")
            ):
                self._arrange(item, root)
        ids = list(self._runs.values())
        self._catalog = open_catalog(Store(str(root)), ids, judging=ids)

    def _arrange(self, item: pytest.Function, root: Path) -> None:
        number = len(self._runs)
        bench = Bench(root, run_id=f"{RUN}-{number}", references=f"references-{number}")
        self._runs[item.name] = bench.run_id
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        halves = self._halves[item.name] = item.function.first_half(bench, **parameters)
        try:
            next(halves)
            bench.write()
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
            self._halves[name].send(Judged(self._catalog, self._runs[name]))
        except StopIteration:
            return
        raise RuntimeError(f"{name} yields more than once")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._catalog.close()
