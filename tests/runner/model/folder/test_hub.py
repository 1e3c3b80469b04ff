"""A model by name is found in Hugging Face's cache; nothing is downloaded that is not asked for."""

import shutil
from pathlib import Path

import pytest

from runner.model.folder import model_folder
from runner.model.folder.hub import HubName, hub_name, model_path
from suites.errors import UserError
from tests.paths import TINY_CHAT

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_cache(tmp_path: Path) -> Path:
    """A cache that holds org/tiny, as huggingface_hub lays it out."""
    repo = tmp_path / "hub" / "models--org--tiny"
    snapshot = repo / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    for path in TINY_CHAT.glob("*.json"):
        shutil.copy(path, snapshot)
    for name in ("model.safetensors", "chat_template.jinja"):
        shutil.copy(TINY_CHAT / name, snapshot)
    for kind in ("f32", "q8_0"):
        shutil.copy(TINY_CHAT / f"tiny-chat-{kind}.gguf", snapshot)
    return tmp_path / "hub"


def test_a_path_is_taken_as_it_is() -> None:
    assert model_path(str(TINY_CHAT)) == TINY_CHAT


@pytest.mark.parametrize("given", ["org/tiny", f"org/tiny@{COMMIT}"])
def test_a_name_is_found_in_the_cache(hub_cache: Path, tmp_path: Path, given: str) -> None:
    found = model_path(given, hub_cache=hub_cache)
    assert found.name == COMMIT
    assert model_folder(found, tmp_path / "cache").path == found


@pytest.mark.parametrize("quant", ["Q8_0", "q8_0"])
def test_a_quantisation_is_one_file_of_the_repository(hub_cache: Path, quant: str) -> None:
    found = model_path(f"org/tiny:{quant}", hub_cache=hub_cache)
    assert found.name == "tiny-chat-q8_0.gguf"


def test_a_quantisation_that_is_not_there_says_which_are(hub_cache: Path) -> None:
    with pytest.raises(UserError, match="no GGUF of the quantisation Q4_K_M") as caught:
        model_path("org/tiny:Q4_K_M", hub_cache=hub_cache)
    assert caught.value.known == "tiny-chat-f32.gguf, tiny-chat-q8_0.gguf"


@pytest.mark.parametrize("given", ["org/other", "org/tiny@v2"])
def test_what_is_not_in_the_cache_is_not_fetched(hub_cache: Path, given: str) -> None:
    with pytest.raises(UserError, match="is not in Hugging Face's cache") as caught:
        model_path(given, hub_cache=hub_cache)
    assert "--download" in caught.value.fix


def test_what_is_no_path_and_no_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        model_path(str(tmp_path / "missing.gguf"))


def test_a_hub_that_cannot_be_reached_is_one_message(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise ConnectionError("[Errno 111] Connection refused")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(UserError, match="cannot download org/other: the hub cannot be reached"):
        model_path("org/other", download=True, hub_cache=hub_cache)


def test_a_name_says_its_parts() -> None:
    assert hub_name("a/b@main:Q4_K_M") == HubName("a/b", "main", "Q4_K_M")
    assert hub_name("models/a/b") is None
    assert hub_name("b.gguf") is None
