"""The tables of docs/architectures.md, made from the tables that the program uses."""

from runner.model.architectures.hf_config import ARCHITECTURE_FACTS
from runner.model.architectures.rope import PARAMETERS
from runner.model.architectures.table import ARCHITECTURES, KEYS, Architecture

_WINDOWS = {
    "none": "no window",
    "all": "window in all layers",
    "from": "window from `max_window_layers` on",
    "period": "window in all layers but every {}.",
}
_COMMON = ("architecture", "layers", "heads", "kv_heads", "vocab_size", "rms_eps", "rope_theta")


def architectures_table() -> str:
    """Return what is special to each architecture."""
    head = (
        "| model_type | in GGUF | facts of its own | the converter to GGUF |\n|---|---|---|---|\n"
    )
    return head + "\n".join(_row(name, known) for name, known in ARCHITECTURES.items()) + "\n"


def facts_line() -> str:
    """Return all facts that are compared."""
    shared = sorted({*KEYS.values(), *ARCHITECTURE_FACTS, *_COMMON})
    return ", ".join(f"`{fact}`" for fact in shared) + "."


def rope_table() -> str:
    """Return the parameters of each type of rope scaling."""
    text = "| type | compared |\n|---|---|\n"
    for kind, parameters in PARAMETERS.items():
        names = ", ".join(f"`{name}`" for name in sorted(parameters)) or "–"
        text += f"| {kind} | {names} |\n"
    return text


def _row(name: str, known: Architecture) -> str:
    own = [f"`{fact}`" for fact in sorted(set(known.keys.values()))]
    own.append(_WINDOWS[known.windows].format(f"{known.window_period}"))
    changes = []
    if known.permuted:
        changes.append("reorders the rows of q and k")
    if known.grouped_qkv:
        changes.append("puts q, k and v in a row")
    if known.norm_shift:
        changes.append(f"adds {known.norm_shift:g} to every norm")
    if "experts" in known.keys.values():
        changes.append("stacks experts")
    if known.cut_embeddings:
        changes.append("drops rows that no token has")
    return f"| {name} | {known.gguf} | {', '.join(own)} | {', '.join(changes) or 'renames only'} |"
