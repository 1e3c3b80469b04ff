"""A Hugging Face folder in any common layout as a complete one.

A complete folder is taken as it is. Where files are missing that others hold in another form, they
are made in the cache, beside links to all the rest.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from runner.model.artifact import read_json
from runner.model.folder.cache import Say, made_once
from runner.model.folder.vocabulary.made import tokenizer_json
from runner.model.folder.vocabulary.of_folder import folder_tables
from runner.model.tensors import read_safetensors
from runner.model.weight_files import weight_files
from suites.digest import tagged_digest
from suites.rendering import ChatTemplates
from suites.rendering.templates import read_object

#: Changes when another folder is made from the same files.
_RULES = "r1"
_TOKENIZER, _CONFIG, _TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
_MORE = "additional_chat_templates"
_DEFAULT = "default"
#: The name of a template becomes the name of a file.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def completed_folder(folder: Path, cache: Path, say: Say) -> tuple[Path, tuple[str, ...]]:
    """Return a complete folder of the model, and notes on what was made.

    Raises:
        UserError: a file is missing or damaged, or a tokenizer cannot be read.
    """
    config = read_json(folder / "config.json")
    weights = weight_files(folder)
    for path in weights:
        # The heads are compared with the files' sizes; the values are not read.
        list(read_safetensors(path, None))
    spare = [path for path in folder.glob("*.safetensors") if path not in weights]
    templates = ChatTemplates.of(folder).sources
    lacks_tokenizer = not (folder / _TOKENIZER).is_file()
    lacks_template = bool(templates) and not (folder / _TEMPLATE).is_file()
    if not (lacks_tokenizer or lacks_template or spare):
        return folder, ()

    def fill(body: Path) -> None:
        made: dict[str, str] = {}
        if lacks_tokenizer:
            tables = folder_tables(folder, str(config.get("model_type")))
            made = {_TOKENIZER: tokenizer_json(tables), _CONFIG: _tokenizer_config(folder)}
        if lacks_template:
            made |= dict(_template_files(templates))
        own = body / folder.absolute().name
        own.mkdir()
        for path in folder.iterdir():
            if path.is_file() and path not in spare and path.name not in made:
                (own / path.name).symlink_to(path.absolute())
        for name, text in made.items():
            (own / name).parent.mkdir(exist_ok=True)
            (own / name).write_text(text, encoding="utf-8")

    whole = made_once(cache, f"hf-{_identity(folder)}-{_RULES}", 0, fill, say)
    notes = []
    if lacks_tokenizer:
        notes.append("it has no tokenizer.json: one was made from its other tokenizer files")
    if spare:
        names = ", ".join(sorted(path.name for path in spare))
        notes.append(f"not named by the index of the weights, and left out: {names}")
    return next(entry for entry in whole.iterdir() if entry.is_dir()), tuple(notes)


def _template_files(templates: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the names and texts of the files in which transformers looks for templates."""
    for name, text in templates.items():
        if name == _DEFAULT:
            yield _TEMPLATE, text
        elif _NAME.fullmatch(name):
            yield f"{_MORE}/{name}.jinja", text


def _identity(folder: Path) -> str:
    """Return what names the folder in the cache: where it is and what it holds."""
    files = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.iterdir())
        if path.is_file()
    ]
    return tagged_digest("f1", [str(folder.absolute()), files]).partition(":")[2]


def _tokenizer_config(folder: Path) -> str:
    """Return the folder's own configuration, for a class that takes tokenizer.json as it is."""
    kept = {
        **read_object(folder / "special_tokens_map.json"),
        **read_object(folder / _CONFIG),
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    return json.dumps(kept, indent=2, ensure_ascii=False) + "\n"
