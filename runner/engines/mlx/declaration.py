"""What is special to MLX: formats, options, what it shows, how its server is started.

mlx-lm computes with Metal on Macs, and on the CPU of any Linux machine. Stop strings and the
parsing of answers belong to its server, not to the library: in process they are absent.
"""

from runner.engines.declaration import Declaration, OwnServer
from runner.engines.mlx.loop import LOOP_OPTIONS
from runner.engines.mlx.server import MlxServer
from runner.engines.mlx.start_server import HEALTH, command
from runner.engines.shown import Shown, all_stages

_CALLS = {
    "instrument": "generate_step, over the model",
    "config": "model.args, the layers, TokenizerWrapper",
    "weights": "the safetensors files, tensor by tensor",
    "template": "TokenizerWrapper.apply_chat_template, up to the tokenizer's own call",
    "tokenize": "TokenizerWrapper.apply_chat_template and stream_generate, up to the ids",
    "logits": "generate_step, over the model and its KV cache",
    "state": "PromptProcessingBatch, GenerationBatch, BatchGenerator, LRUPromptCache, "
    "trim_prompt_cache, generate_step(prefill_step_size)",
    "sampling": "make_sampler, make_logits_processors in generate_step",
    "stop": "generate, forced by a logits processor; it knows no stop strings",
    "detokenize": "generate and stream_generate, forced by a logits processor",
    "chain": "apply_chat_template, generate, stream_generate",
}
_OPTION_TYPES: dict[str, type[int | float | str]] = {
    **dict.fromkeys(LOOP_OPTIONS, int),
    **dict.fromkeys(("decode_concurrency", "prompt_concurrency", "max_tokens", "top_k"), int),
    **dict.fromkeys(("prompt_cache_size", "prompt_cache_bytes"), int),
    **dict.fromkeys(("temp", "top_p", "min_p"), float),
    **dict.fromkeys(("dtype", "chat_template"), str),
    "use_default_chat_template": bool,
}
DECLARATION = Declaration(
    engine="mlx",
    module="mlx_lm",
    packages=("mlx-lm",),
    formats=("hf",),
    backends=("metal", "cpu"),
    servings=("in_process", "managed"),
    structure_types=("f32", "f16", "bf16"),
    shown=Shown(
        stages=all_stages("path", parse="absent"),
        calls=_CALLS,
        scenarios=("batched", "chunked", "prefix", "reused", "concurrent"),
    ),
    option_names=("dtype", *LOOP_OPTIONS),
    option_types=_OPTION_TYPES,
    adapter="runner.engines.mlx.adapter",
    own_server=OwnServer(
        dialect=MlxServer,
        command=command,
        health=HEALTH,
        option_names=(
            "chat_template",
            "chat_template_args",
            "use_default_chat_template",
            "decode_concurrency",
            "prompt_concurrency",
            "prefill_step_size",
            "prompt_cache_size",
            "prompt_cache_bytes",
            "kv_bits",
            "kv_group_size",
            "quantized_kv_start",
            "max_tokens",
            "temp",
            "top_p",
            "top_k",
            "min_p",
        ),
    ),
    # Beside these: a quantised cache (kv_bits) is left out, and Metal's TF32 is switched off.
    structure_options={"dtype": "f32"},
)
