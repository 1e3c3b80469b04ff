"""Models by name (``org/name@revision``, ``org/repo:QUANT``): found in Hugging Face's local cache.

Nothing is downloaded unless it is asked for.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from runner.model.gguf_parts import gguf_parts
from suites.errors import UserError

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_NAME = re.compile(rf"(?P<repo>{_PART}/{_PART})(@(?P<revision>[\w./-]{{1,96}}))?(:(?P<quant>\w+))?")
#: What a model is made of; a repository may hold much more, in other formats.
_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.tiktoken", "merges.txt")


@dataclass(frozen=True)
class HubName:
    """A model on the hub."""

    repo: str
    revision: str | None = None
    """A commit, branch or tag; None for the main branch."""
    quant: str | None = None
    """Quantisation of one GGUF among several: Q4_K_M."""


def hub_name(given: str) -> HubName | None:
    """Return what a name says; None if it has not the form of one."""
    found = _NAME.fullmatch(given)
    return None if found is None else HubName(found["repo"], found["revision"], found["quant"])


def model_path(given: str, *, download: bool = False, hub_cache: Path | None = None) -> Path:
    """Return the file or folder of a model: a path as it is, a name in Hugging Face's cache.

    Args:
        given: a path, ``org/name``, ``org/name@revision`` or ``org/repo:QUANT``.
        download: whether to fetch what is not in the cache.
        hub_cache: Hugging Face's cache; the user's own when None.

    Raises:
        UserError: it is neither; or it must be downloaded and was not asked for, or cannot be.
    """
    path, name = Path(given).expanduser(), hub_name(given)
    if path.exists() or name is None:
        if not path.exists():
            what = "there is no such file or folder"
            fix = "check the path, or give a name such as org/name@revision or org/repo:Q4_K_M"
            raise UserError(what, where=given, fix=fix)
        return path
    folder = _snapshot(given, name, download=download, hub_cache=hub_cache)
    return folder if name.quant is None else _quantised(folder, name)


def _snapshot(given: str, name: HubName, *, download: bool, hub_cache: Path | None) -> Path:
    # Imported here: it takes a second, and most models are paths.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    quant = name.quant
    wanted = _FILES if quant is None else (f"*{quant}*.gguf", f"*{quant.lower()}*.gguf")
    try:
        found = snapshot_download(
            name.repo,
            revision=name.revision,
            cache_dir=hub_cache,
            local_files_only=not download,
            allow_patterns=[*wanted, "*.gguf"] if not download else list(wanted),
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        if not download:
            raise UserError(
                f"there is no such path, and {name.repo} is not in Hugging Face's cache",
                where=given,
                fix="add --download to fetch it from the hub, or give the path of the model",
            ) from error
        status = getattr(getattr(error, "response", None), "status_code", None)
        why = f"the hub answered {status}" if status else "the hub cannot be reached"
        raise UserError(
            f"cannot download {name.repo}: {why}",
            where=given,
            fix="check the name, the network and HF_TOKEN; or give the path of a model",
        ) from error
    return Path(found)


def _quantised(folder: Path, name: HubName) -> Path:
    """Return the one GGUF of a folder whose name holds the quantisation."""
    files = [path for path in sorted(folder.rglob("*.gguf")) if "mmproj" not in path.name.lower()]
    wanted = re.compile(rf"(?:^|[-._]){re.escape(name.quant or '')}(?:[-._]|$)", re.IGNORECASE)
    found = list(dict.fromkeys(gguf_parts(path)[0] for path in files if wanted.search(path.stem)))
    if len(found) == 1:
        return found[0]
    known = ", ".join(path.name for path in files) or "no GGUF file"
    many = "several GGUFs" if found else "no GGUF"
    raise UserError(
        f"{name.repo} has {many} of the quantisation {name.quant} in Hugging Face's cache",
        where=str(folder),
        known=known,
        fix="give the path of a file" if found else "add --download, or give another quantisation",
    )
