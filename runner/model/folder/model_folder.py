"""Which form a path holds, and the complete model folder of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runner.model.folder.cache import Say, silent
from runner.model.folder.from_folder import completed_folder
from runner.model.folder.from_gguf import folder_of_gguf
from runner.model.gguf_parts import gguf_parts
from suites.errors import UserError

#: GGUFs of this name hold the part that reads images; a text model does not need it.
_PROJECTOR = "mmproj"


@dataclass(frozen=True)
class ModelFolder:
    """A complete model folder and where it comes from."""

    path: Path
    """Folder with config.json, tokenizer.json, tokenizer_config.json and safetensors, and
    generation_config.json and chat_template.jinja if the model has them."""
    taken_from: Literal["hf", "gguf"]
    """hf: the model's own folder says what is true; gguf: the GGUF was taken as the model."""
    notes: tuple[str, ...] = ()
    """What the reader of a verdict should know of it."""
    gguf: Path | None = None
    """The GGUF that was taken as the model: its first part."""


@dataclass(frozen=True)
class FoundArtifact:
    """A file or folder as an engine opens it."""

    path: Path
    """The first part of a GGUF model, or a folder with config.json."""
    form: Literal["hf", "gguf"]
    notes: tuple[str, ...] = ()


def find_artifact(path: Path) -> FoundArtifact:
    """Return what a path holds; nothing is made and no weights are read.

    Args:
        path: a GGUF file (any part of it), a folder with one, or a folder in Hugging Face's layout.

    Raises:
        UserError: there is no model; the message says why and what to do.
    """
    if path.is_file():
        if _PROJECTOR in path.name.lower():
            what = "this GGUF holds the part that reads images, not a language model"
            raise UserError(what, where=str(path), fix="give the model's own GGUF")
        return FoundArtifact(gguf_parts(path)[0], "gguf")
    if not path.is_dir():
        what = "there is no such file or folder"
        raise UserError(what, where=str(path), fix="check the path of the model")
    if (path / "config.json").exists():
        return FoundArtifact(path, "hf")
    found = sorted(path.glob("*.gguf"))
    models = [file for file in found if _PROJECTOR not in file.name.lower()]
    firsts = list(dict.fromkeys(gguf_parts(file)[0] for file in models))
    if len(firsts) == 1:
        ignored = (file.name for file in found if file not in models)
        notes = tuple(f"{name} was ignored: images are not qualified" for name in ignored)
        return FoundArtifact(firsts[0], "gguf", notes)
    if firsts:
        raise UserError(
            f"the folder holds {len(firsts)} GGUF models",
            where=str(path),
            known=", ".join(file.name for file in firsts),
            fix="give the path of one of them",
        )
    raise UserError(
        "the folder holds no model: neither config.json nor a GGUF file",
        where=str(path),
        fix="give a GGUF file, or a folder with config.json, tokenizer and safetensors",
    )


def model_folder(path: Path, cache: Path, say: Say = silent) -> ModelFolder:
    """Return the model at ``path`` as a complete folder; what must be made is made in ``cache``.

    Args:
        path: as of ``find_artifact``.
        cache: folder for made models, see ``default_cache``.
        say: is told what is made, before it is: a large GGUF takes minutes.

    Raises:
        UserError: there is no model, or it cannot be read; the message says why and what to do.
    """
    found = find_artifact(path)
    if found.form == "hf":
        whole, notes = completed_folder(found.path, cache, say)
        return ModelFolder(whole, "hf", notes)
    made, notes = folder_of_gguf(found.path, cache, say)
    return ModelFolder(made, "gguf", (*notes, *found.notes), found.path)
