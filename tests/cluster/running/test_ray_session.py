"""How Ray is reached: never by chance, never without an end, never unauthenticated by default."""

import os
from pathlib import Path

import pytest

from cluster.running.ray_session import _authenticate, ray_session
from suites.errors import UserError


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment without any of Ray's authentication; returns the home folder."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # so that what the code sets is undone
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_private_cluster_gets_a_token_of_its_own(unset: Path) -> None:
    _authenticate("local")
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert not (unset / ".ray").exists()


def test_another_cluster_is_joined_with_the_user_s_token_if_there_is_one(unset: Path) -> None:
    (unset / ".ray").mkdir()
    (unset / ".ray" / "auth_token").write_text("secret")
    _authenticate("10.0.0.1:6379")
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert "RAY_AUTH_TOKEN" not in os.environ


def test_without_a_token_authentication_is_off_explicitly(unset: Path) -> None:
    _authenticate("10.0.0.1:6379")
    assert os.environ["RAY_AUTH_MODE"] == "disabled"


def test_the_user_s_mode_is_kept(unset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    _authenticate("local")
    assert "RAY_AUTH_TOKEN" not in os.environ


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", "nothing answers at 127.0.0.1:1"),
        ("127.0.0.1:99999", "nothing answers"),
        ("somewhere", "not the address"),
        ("ray://127.0.0.1:10001", "not the address"),
    ],
)
def test_a_wrong_address_is_told_within_seconds(address: str, words: str) -> None:
    with pytest.raises(UserError, match="--address") as told, ray_session(address):
        pytest.fail("no session was possible")
    assert words in str(told.value)
