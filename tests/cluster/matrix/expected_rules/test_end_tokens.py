"""The tokens at which llama.cpp ends an answer of a model that names its tokens as others do."""

import json
import shutil
from pathlib import Path

import pytest

from cluster.matrix.expected_rules.end_tokens import named_ends
from cluster.matrix.expected_rules.model_texts import ModelTexts
from tests.paths import TINY_CHAT

NEXT_ID = 1536


def model_with(folder: Path, *names: str) -> ModelTexts:
    """Return the texts of tiny-chat with more special tokens."""
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        shutil.copy(TINY_CHAT / name, folder / name)
    body = json.loads((TINY_CHAT / "tokenizer.json").read_text())
    for index, name in enumerate(names):
        body["added_tokens"].append(
            {**body["added_tokens"][0], "id": NEXT_ID + index, "content": name}
        )
    (folder / "tokenizer.json").write_text(json.dumps(body))
    return ModelTexts(folder)


@pytest.mark.parametrize(
    ("names", "added"),
    [
        ((), [set()]),
        (("<|im_start|>", "<|im_end|>"), [{1}]),
        (("<|endoftext|>", "<file_sep>", "<reponame>"), [{0, 2}]),
        (("<|file_sep|>",), [{0}]),
        (("<|repo_name|>", "<|fim_repo|>"), [{0}, {1}]),
        (("<|end|>", "<|return|>", "<|call|>"), [{1, 2}]),
        (("<|end|>", "<|return|>"), [{0, 1}]),
        (("</s>", "<|tool_response>"), [{1}]),
    ],
)
def test_tokens_that_are_named_like_an_end_are_one(
    names: tuple[str, ...], added: list[set[int]], tmp_path: Path
) -> None:
    texts = model_with(tmp_path, *names)
    own = {1528, 1531}
    found = {frozenset(ends) for ends in named_ends(texts)}
    assert found == {frozenset(own | {NEXT_ID + i for i in more}) for more in added}
