"""config.json and generation_config.json from a GGUF's metadata."""

from typing import Any

import numpy as np

from runner.model.folder.architectures import ARCHITECTURES, Architecture, architecture_of
from runner.model.folder.rope import llama3_parameters
from runner.model.gguf_reading import GgufReading
from suites.errors import UserError

#: Keys below the architecture's name that are read here, or that change nothing.
_READ = {
    "vocab_size",
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.finetuned",
    "use_parallel_residual",
    "tensor_data_layout",
}
_THETA = 10000.0
#: Names of the tokens that end an answer.
_ENDS = ("eos", "eot", "eom")
_FIX = "give the model's Hugging Face folder, or a GGUF made by a newer converter"


class GgufConfig:
    """What a GGUF's metadata say of the model."""

    def __init__(self, reading: GgufReading) -> None:
        """Raises UserError if the architecture is not known."""
        self._reading, self._values = reading, reading.metadata
        self._name = str(self._values.get("general.architecture"))
        found = architecture_of(self._name, self._values.get(f"{self._name}.expert_count"))
        if found is None:
            raise UserError(
                f"the architecture {self._name!r} cannot be read from a GGUF alone",
                where=str(reading.path),
                known=", ".join(sorted(ARCHITECTURES)),
                fix="give the model's Hugging Face folder; the GGUF is then one of its variants",
            )
        self.architecture: Architecture = found

    @property
    def unread(self) -> list[str]:
        """Keys of the architecture that state something which config.json does not get."""
        known = _READ | set(self.architecture.keys)
        prefix = f"{self._name}."
        keys = (key for key in self._values if key.startswith(prefix))
        return sorted(key for key in keys if key.removeprefix(prefix) not in known)

    def config(self, tokens: int, ids: dict[str, Any]) -> dict[str, Any]:
        """Return config.json.

        Args:
            tokens: how many tokens the vocabulary has.
            ids: bos_token_id, eos_token_id and pad_token_id.

        Raises:
            UserError: a key is missing or has the wrong type.
        """
        heads, tensors = self._count("attention.head_count"), self._reading.tensors
        hidden = self._count("embedding_length")
        config: dict[str, Any] = {
            "architectures": [self.architecture.class_name],
            "model_type": self.architecture.model_type,
            "vocab_size": tokens,
            "hidden_size": hidden,
            "intermediate_size": self._count("feed_forward_length"),
            "num_hidden_layers": self._count("block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": self._count("attention.head_count_kv", heads),
            "head_dim": self._count("attention.key_length", max(1, hidden // heads)),
            "max_position_embeddings": self._count("context_length"),
            "tie_word_embeddings": "output.weight" not in tensors,
            "attention_bias": "blk.0.attn_q.bias" in tensors,
            "mlp_bias": "blk.0.ffn_up.bias" in tensors,
            "dtype": "float32",
            **self.architecture.constants,
            **ids,
        }
        if self._has("attention.layer_norm_rms_epsilon"):
            config["rms_norm_eps"] = self._number("attention.layer_norm_rms_epsilon")
        for key, name in self.architecture.keys.items():
            if self._has(key):
                config[name] = self._plain(key)
        if not config.get("sliding_window", True):
            # A window of 0 is how GGUF says that there is none.
            config["sliding_window"] = None
        config |= self._rotary(config) | self._own_rules(config)
        return config

    def _rotary(self, config: dict[str, Any]) -> dict[str, Any]:
        theta = self._number("rope.freq_base", _THETA)
        size = self._count("rope.dimension_count", config["head_dim"])
        scaling = self._scaling(config, theta, size)
        rotary = {"rope_type": "default", **scaling, "rope_theta": theta}
        found: dict[str, Any] = {"rope_theta": theta, "rope_parameters": rotary}
        if size != config["head_dim"]:
            rotary["partial_rotary_factor"] = size / config["head_dim"]
            found["partial_rotary_factor"] = size / config["head_dim"]
        if scaling:
            found["rope_scaling"] = scaling
        return found

    def _scaling(self, config: dict[str, Any], theta: float, size: int) -> dict[str, Any]:
        kind = self._values.get(f"{self._name}.rope.scaling.type", "none")
        original = "rope.scaling.original_context_length"
        trained = {"original_max_position_embeddings": self._count(original, 0)}
        factors = {
            name: self._factors(f"rope_{name}.weight", size // 2)
            for name in ("freqs", "factors_short", "factors_long")
        }
        if factors["factors_long"] and factors["factors_short"]:
            longer = config["max_position_embeddings"] / max(1, trained[next(iter(trained))])
            return {
                "rope_type": "longrope",
                "factor": longer,
                "short_factor": factors["factors_short"],
                "long_factor": factors["factors_long"],
                **trained,
            }
        if factors["freqs"]:
            found = llama3_parameters(factors["freqs"], theta, size)
            if found is None:
                raise self._wrong("no parameters of Llama 3's scaling make its rope_freqs")
            return found
        if kind == "linear":
            return {"rope_type": "linear", "factor": self._number("rope.scaling.factor")}
        if kind == "yarn":
            betas = {
                name: self._number(f"rope.scaling.yarn_{name}")
                for name in ("beta_fast", "beta_slow")
                if self._has(f"rope.scaling.yarn_{name}")
            }
            factor = self._number("rope.scaling.factor")
            return {"rope_type": "yarn", "factor": factor, **trained, **betas}
        if kind == "none":
            return {}
        raise self._wrong(f"rope.scaling.type is {kind!r}, which is not known")

    def _factors(self, name: str, count: int) -> list[float]:
        tensor = self._reading.tensors.get(name)
        if tensor is None:
            return []
        if tensor.shape != (count,):
            raise self._wrong(f"{name} has the shape {list(tensor.shape)}, expected [{count}]")
        # Seven digits are all that fp32 holds.
        return [float(f"{value:.7g}") for value in self._reading.values(tensor)]

    def _own_rules(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return what one architecture states in its own way, or leaves to its readers."""
        heads, layers = config["num_attention_heads"], config["num_hidden_layers"]
        match config["model_type"]:
            case "gemma2":
                # The file does not hold the scale; Gemma 2 has that of the head, except 27B.
                scalar = config["hidden_size"] // heads if layers == 46 else config["head_dim"]
                return {"query_pre_attn_scalar": scalar}
            case "gemma3_text":
                local = self._number("rope.freq_base_swa", _THETA)
                scalar = config["hidden_size"] // heads if layers == 62 else config["head_dim"]
                # Published keys, and those that transformers 5 writes: engines read one or other.
                kinds = [
                    "full_attention" if (i + 1) % 6 == 0 else "sliding_attention"
                    for i in range(layers)
                ]
                windowed = {"rope_type": "default", "rope_theta": local}
                return {
                    "query_pre_attn_scalar": scalar,
                    "rope_local_base_freq": local,
                    "sliding_window_pattern": 6,
                    "layer_types": kinds,
                    "rope_parameters": {
                        "full_attention": config["rope_parameters"],
                        "sliding_attention": windowed,
                    },
                }
            case "gpt_neox":
                return {
                    "rotary_pct": self._count("rope.dimension_count") / config["head_dim"],
                    "rotary_emb_base": config["rope_theta"],
                    "use_parallel_residual": self._values.get(
                        f"{self._name}.use_parallel_residual", True
                    ),
                }
        return {}

    def _has(self, key: str) -> bool:
        return f"{self._name}.{key}" in self._values

    def _plain(self, key: str) -> Any:
        found = self._values[f"{self._name}.{key}"]
        if isinstance(found, np.ndarray):
            if found.size == 0 or np.any(found != found[0]):
                raise self._wrong(f"{key} differs between layers, which is not read yet")
            return found[0].item()
        return found

    def _count(self, key: str, default: int | None = None) -> int:
        if not self._has(key):
            if default is None:
                raise self._wrong(f"the key {self._name}.{key} is missing")
            return default
        found = self._plain(key)
        if type(found) is not int or not 0 < found < 1 << 31:
            raise self._wrong(f"{self._name}.{key} is {found!r}, expected a count")
        return found

    def _number(self, key: str, default: float | None = None) -> float:
        if not self._has(key):
            if default is None:
                raise self._wrong(f"the key {self._name}.{key} is missing")
            return default
        found = self._plain(key)
        if type(found) not in (int, float) or not 0 < found < 1e12:
            raise self._wrong(f"{self._name}.{key} is {found!r}, expected a number above 0")
        # The file keeps fp32; seven digits are all that it can say.
        return float(f"{found:.7g}")

    def _wrong(self, what: str) -> UserError:
        return UserError(what, where=str(self._reading.path), fix=_FIX)


def token_ids(reading: GgufReading, tokens: int) -> dict[str, Any]:
    """Return bos_token_id, eos_token_id (one id, or a list) and pad_token_id, as far as stated."""
    ids: dict[str, int] = {}
    for name in ("bos", "padding", *_ENDS):
        index = reading.metadata.get(f"tokenizer.ggml.{name}_token_id")
        if type(index) is int and 0 <= index < tokens:
            ids[name] = index
    ends = list(dict.fromkeys(ids[name] for name in _ENDS if name in ids))
    found: dict[str, Any] = {"bos_token_id": ids.get("bos")}
    found["eos_token_id"] = ends[0] if len(ends) == 1 else ends or None
    found["pad_token_id"] = ids.get("padding")
    return found
