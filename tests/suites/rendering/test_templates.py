"""A model's chat templates are found in every place where transformers looks for them."""

import json
from pathlib import Path
from typing import Any

import pytest

from suites.errors import UserError
from suites.rendering import ChatTemplates


def _folder(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_json", ".json").replace(
            "_jinja", ".jinja"
        )
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_the_file_wins_over_the_configuration(tmp_path: Path) -> None:
    _folder(tmp_path, chat_template_jinja="file", tokenizer_config_json={"chat_template": "config"})
    assert ChatTemplates.of(tmp_path).sources == {"default": "file"}


def test_additional_templates_are_named_after_their_files(tmp_path: Path) -> None:
    _folder(tmp_path, chat_template_jinja="a", additional_chat_templates__tool_use_jinja="b")
    templates = ChatTemplates.of(tmp_path)
    assert templates.choose(tools=True) == "b"
    assert templates.choose(tools=False) == "a"


def test_a_list_of_named_templates_is_read_from_the_configuration(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    _folder(tmp_path, tokenizer_config_json={"chat_template": named})
    assert ChatTemplates.of(tmp_path).sources == {"default": "a", "tool_use": "b"}


def test_the_templates_of_a_processor_come_last(tmp_path: Path) -> None:
    _folder(tmp_path, **{"chat_template_json": {"chat_template": "processor"}})
    assert ChatTemplates.of(tmp_path).sources == {"default": "processor"}
    _folder(tmp_path, tokenizer_config_json={"chat_template": "tokenizer"})
    assert ChatTemplates.of(tmp_path).sources == {"default": "tokenizer"}


def test_templates_get_the_special_tokens_that_transformers_gives_them(tmp_path: Path) -> None:
    config = {
        "bos_token": "<s>",
        "eos_token": {"content": "</s>", "lstrip": False},
        "pad_token": None,
        "add_bos_token": True,
        "image_token": "<img>",
        "extra_special_tokens": {"audio_token": "<audio>"},
    }
    _folder(tmp_path, tokenizer_config_json=config, special_tokens_map_json={"unk_token": "<u>"})
    assert ChatTemplates.of(tmp_path).specials == {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<u>",
        "audio_token": "<audio>",
    }


def test_without_a_default_the_names_are_listed(tmp_path: Path) -> None:
    _folder(tmp_path, additional_chat_templates__rag_jinja="r")
    with pytest.raises(UserError, match="no chat template of the model is the default") as raised:
        ChatTemplates.of(tmp_path).choose(tools=True)
    assert raised.value.known == "rag"


@pytest.mark.parametrize("value", [7, [1], [{"name": "a"}], [{"name": "a", "template": 1}]])
def test_a_template_of_another_type_is_refused(tmp_path: Path, value: Any) -> None:
    _folder(tmp_path, tokenizer_config_json={"chat_template": value})
    with pytest.raises(UserError, match="neither text nor a list of names and templates"):
        ChatTemplates.of(tmp_path)
