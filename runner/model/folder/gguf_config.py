"""config.json from a GGUF's metadata, and the ids of its special tokens."""

from typing import Any

from runner.model.folder.architectures import ARCHITECTURES, Architecture, architecture_of
from runner.model.folder.gguf_keys import GgufKeys
from runner.model.folder.gguf_rope import rotary
from runner.model.gguf_reading import GgufReading
from suites.errors import UserError

#: Keys that say what others say too, or how the file is packed.
_SILENT = ("vocab_size", "attention.value_length", "tensor_data_layout")
#: Keys that change the numbers; a file that states one which its architecture here does not read is
#: refused, because the made model would compute something else.
_CHANGING = (
    "attention.sliding_window",
    "attention.clamp_kqv",
    "attention.scale",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "logit_scale",
    "embedding_scale",
    "residual_scale",
    "expert_weights_scale",
    "expert_count",
)
#: Layers of the models whose attention is scaled by the width per head: Gemma 2 and 3 of 27B.
_SCALED_BY_WIDTH = {"gemma2": 46, "gemma3_text": 62}
_LOCAL_THETA, _GLOBAL_EVERY = 10000.0, 6
#: Names of the tokens that end an answer.
_ENDS = ("eos", "eot", "eom")


class GgufConfig:
    """What a GGUF's metadata say of the model."""

    def __init__(self, reading: GgufReading) -> None:
        """Raises UserError if the architecture is not known."""
        name = str(reading.metadata.get("general.architecture"))
        self._reading, self._keys = reading, GgufKeys(reading, name)
        found = architecture_of(name, self._keys.plain("expert_count"))
        if found is None:
            raise UserError(
                f"the architecture {name!r:.80} cannot be read from a GGUF alone",
                where=str(reading.path),
                known=", ".join(sorted(ARCHITECTURES)),
                fix="give the model's Hugging Face folder; the GGUF is then one of its variants",
            )
        self.architecture: Architecture = found

    @property
    def unread(self) -> list[str]:
        """Keys of the architecture that state something which config.json did not get."""
        return self._keys.unread

    def config(self) -> dict[str, Any]:
        """Return config.json without the ids of tokens.

        Raises:
            UserError: a key is missing or has the wrong type, or something is not known.
        """
        keys, architecture, tensors = self._keys, self.architecture, self._reading.tensors
        embedding = tensors.get("token_embd.weight")
        if embedding is None:
            raise keys.wrong("it has no tensor token_embd.weight: it holds no language model")
        for key in _SILENT:
            keys.has(key)
        for key in _CHANGING:
            if key not in architecture.keys and keys.plain(key):
                kind = architecture.model_type
                raise keys.wrong(f"{key} is {keys.plain(key)!r:.80}: it is not read for {kind} yet")
        heads, hidden = keys.count("attention.head_count"), keys.count("embedding_length")
        config: dict[str, Any] = {
            "architectures": [architecture.class_name],
            "model_type": architecture.model_type,
            "vocab_size": embedding.shape[0],
            "hidden_size": hidden,
            "intermediate_size": keys.count("feed_forward_length"),
            "num_hidden_layers": keys.count("block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": keys.count("attention.head_count_kv", heads),
            "head_dim": keys.count("attention.key_length", max(1, hidden // heads)),
            "max_position_embeddings": keys.count("context_length"),
            "tie_word_embeddings": "output.weight" not in tensors,
            "dtype": "float32",
            **{key: name in tensors for key, name in architecture.biases.items()},
            **architecture.constants,
        }
        if keys.has("attention.layer_norm_rms_epsilon"):
            config["rms_norm_eps"] = keys.number("attention.layer_norm_rms_epsilon")
        stated = {name: keys.plain(key) for key, name in architecture.keys.items()}
        config |= {name: value for name, value in stated.items() if value is not None}
        if not config.get("sliding_window", True):
            # A window of 0 is how GGUF says that there is none.
            config["sliding_window"] = None
        config |= rotary(keys, config["head_dim"], config["max_position_embeddings"])
        return config | self._own_rules(config)

    def _own_rules(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return what one architecture states in its own way, or leaves to its readers."""
        kind = config["model_type"]
        if kind == "gpt_neox":
            parallel = self._keys.plain("use_parallel_residual")
            return {
                "rotary_pct": config.get("partial_rotary_factor", 1.0),
                "rotary_emb_base": config["rope_theta"],
                "use_parallel_residual": True if parallel is None else parallel,
            }
        if kind not in _SCALED_BY_WIDTH:
            return {}
        heads, layers = config["num_attention_heads"], config["num_hidden_layers"]
        by_width = layers == _SCALED_BY_WIDTH[kind]
        # The file does not hold the scale of attention; llama.cpp has the same rule.
        scalar = config["hidden_size"] // heads if by_width else config["head_dim"]
        found: dict[str, Any] = {"query_pre_attn_scalar": scalar}
        if kind == "gemma2":
            return found
        local = self._keys.number("rope.freq_base_swa", _LOCAL_THETA)
        kinds = [
            "sliding_attention" if (i + 1) % _GLOBAL_EVERY else "full_attention"
            for i in range(layers)
        ]
        # Published keys, and those that transformers 5 writes: engines read one or the other.
        return found | {
            "rope_local_base_freq": local,
            "sliding_window_pattern": _GLOBAL_EVERY,
            "layer_types": kinds,
            "rope_parameters": {
                "full_attention": config["rope_parameters"],
                "sliding_attention": {"rope_type": "default", "rope_theta": local},
            },
        }


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
