"""Which safetensors files of a Hugging Face folder are the model."""

from pathlib import Path

from suites.errors import UserError
from suites.rendering.templates import read_object

_INDEX = "model.safetensors.index.json"
#: Files that run code when they are read: they are never opened.
_PICKLES = ("*.bin", "*.pth", "*.pt", "*.ckpt")
_NAMED = 3


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the weights: those of the index, else all.

    Raises:
        UserError: there are none, or a shard is missing.
    """
    index = folder / _INDEX
    listed = read_object(index).get("weight_map")
    if listed is not None and not isinstance(listed, dict):
        what = "weight_map is not an object of tensors and files"
        raise UserError(what, where=str(index), fix="download the folder again")
    names = sorted({str(name) for name in (listed or {}).values()})
    elsewhere = [name for name in names if Path(name).name != name]
    if elsewhere:
        what = f"it names {elsewhere[0]!r:.80}, which is not a file beside it"
        raise UserError(what, where=str(index), fix="put all weights into the model's folder")
    found = [folder / name for name in names]
    if listed is None:
        found = sorted(folder.glob("*.safetensors"))
    missing = [path.name for path in found if not path.is_file()]
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise UserError(
            f"the index names {len(found)} files; missing: {', '.join(missing[:_NAMED])}{more}",
            where=str(folder),
            fix="download the missing files into this folder",
        )
    if not found:
        raise _no_weights(folder)
    return found


def _no_weights(folder: Path) -> UserError:
    pickles = sorted(path.name for kind in _PICKLES for path in folder.glob(kind))
    if pickles:
        return UserError(
            f"its weights are pickles ({pickles[0]}), which can run code when they are read",
            where=str(folder),
            fix="save the model as safetensors: `model.save_pretrained(folder)` of transformers",
        )
    return UserError("it has no safetensors file", where=str(folder), fix="give a complete model")
