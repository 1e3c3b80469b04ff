"""Threads that wait for others sleep, unless requests are timed as the engine is served."""

import os

import pytest

from runner.engines.base import Load
from runner.engines.child import _wait_asleep
from runner.engines.engine import Engine
from runner.engines.orders import ChildOrder


@pytest.mark.parametrize(
    ("pass_", "given", "policy"),
    [
        ("structure", None, "PASSIVE"),
        ("deployed", None, "PASSIVE"),
        ("deployed", "ACTIVE", "ACTIVE"),
        ("timed", None, None),
    ],
)
def test_the_policy_is_set_before_the_engine_is_imported(
    pass_: str, given: str | None, policy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Set first, so that monkeypatch restores what was there.
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    load = Load("x", "cpu", pass_, "f32", Engine("transformers", "transformers"))
    _wait_asleep(ChildOrder(load, []))
    assert os.environ.get("OMP_WAIT_POLICY") == policy
