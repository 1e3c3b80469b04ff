"""The chat templates of a model folder, and the special tokens that they may name."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suites.errors import UserError

#: The names of special tokens that transformers gives to a template.
_TOKEN_NAMES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
_DEFAULT, _TOOL_USE = "default", "tool_use"


@dataclass(frozen=True)
class ChatTemplates:
    """All templates of one model, by name."""

    sources: dict[str, str]
    """Name → Jinja source; a model with one template calls it ``default``."""
    specials: dict[str, str]
    """Variables that every template gets, such as ``bos_token``."""

    @classmethod
    def of(cls, folder: Path) -> "ChatTemplates":
        """Read the templates of a folder in Hugging Face's layout.

        ``chat_template.jinja`` and ``additional_chat_templates/`` win over
        ``tokenizer_config.json``, as in transformers; ``chat_template.json`` comes last.

        Raises:
            UserError: a file cannot be read, or has no template where it should have one.
        """
        sources = _from_files(folder)
        for name in ("tokenizer_config.json", "chat_template.json"):
            path = folder / name
            sources = sources or _named(read_object(path).get("chat_template"), path)
        return cls(sources, special_tokens(folder))

    def choose(self, *, tools: bool) -> str:
        """Return the source for a conversation with or without ``tools``.

        Raises:
            UserError: the model has no template, or several and none is the default.
        """
        if tools and _TOOL_USE in self.sources:
            return self.sources[_TOOL_USE]
        if _DEFAULT in self.sources:
            return self.sources[_DEFAULT]
        known = ", ".join(sorted(self.sources))
        if known:
            raise UserError("no chat template of the model is the default", known=known)
        raise UserError("the model has no chat template")


def special_tokens(folder: Path) -> dict[str, str]:
    """Return the special tokens by name, as transformers hands them to a template."""
    found: dict[str, str] = {}
    config = read_object(folder / "tokenizer_config.json")
    extra = config.get("extra_special_tokens")
    given = {**read_object(folder / "special_tokens_map.json"), **config}
    for name, token in given.items():
        if name in _TOKEN_NAMES and (text := _token_text(token)) is not None:
            found[name] = text
    if isinstance(extra, dict):
        found |= {name: text for name, v in extra.items() if (text := _token_text(v)) is not None}
    return found


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; a file that is not there is empty.

    Raises:
        UserError: the file cannot be read, or is no object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        what = f"not UTF-8 text: byte {error.start} is wrong"
        raise UserError(what, where=str(path), fix="download the file again") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"not readable as JSON: {error}", where=str(path)) from error
    if not isinstance(found, dict):
        raise UserError("expected a JSON object", where=str(path))
    return found


def _from_files(folder: Path) -> dict[str, str]:
    single = folder / "chat_template.jinja"
    found = {_DEFAULT: _read(single)} if single.is_file() else {}
    more = sorted((folder / "additional_chat_templates").glob("*.jinja"))
    return found | {path.stem: _read(path) for path in more}


def _named(found: Any, where: Path) -> dict[str, str]:
    """Return a ``chat_template`` as written in JSON: one text, or a list of named ones."""
    if found is None:
        return {}
    if isinstance(found, str):
        return {_DEFAULT: found}
    if isinstance(found, dict) and all(isinstance(text, str) for text in found.values()):
        return dict(found)
    try:
        named = {entry["name"]: entry["template"] for entry in found}
        if all(isinstance(text, str) for pair in named.items() for text in pair):
            return named
    except (TypeError, KeyError):
        pass
    raise UserError(
        "chat_template is neither text nor a list of names and templates", where=str(where)
    )


def _token_text(token: Any) -> str | None:
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"not readable as UTF-8 text: {error}", where=str(path)) from error
