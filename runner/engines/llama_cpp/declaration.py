"""What is special to llama.cpp: formats, options, what it shows, how its server is started."""

from runner.engines.declaration import Declaration, OwnServer
from runner.engines.llama_cpp.server import LlamaCppPython
from runner.engines.llama_cpp.start_server import HEALTH, STRUCTURE_OPTIONS, command
from runner.engines.shown import Shown, all_stages

_CALLS = {
    "instrument": "Llama.eval, Llama.scores",
    "config": "Llama.metadata, llama_model_*, llama_vocab_*",
    "weights": "the GGUF file, tensor by tensor",
    "template": "Llama.create_chat_completion, up to Llama.tokenize",
    "tokenize": "Llama.create_chat_completion and create_completion, from Llama.tokenize on",
    "logits": "Llama.eval, Llama.scores",
    "state": "llama_decode over several sequences; Llama.generate's own prefix reuse",
    "sampling": "Llama.generate over Llama.sample",
    "stop": "Llama.create_chat_completion, forced by a logits_processor",
    "detokenize": "Llama.create_chat_completion, forced by a logits_processor",
    "parse": "Llama.create_chat_completion, forced by a logits_processor",
    "chain": "Llama.create_chat_completion",
}
#: Options that the library and its server have in common.
_SHARED_OPTIONS = (
    "n_ctx",
    "n_batch",
    "n_ubatch",
    "n_threads",
    "n_threads_batch",
    "n_gpu_layers",
    "flash_attn",
    "type_k",
    "type_v",
    "rope_freq_base",
    "rope_freq_scale",
    "use_mmap",
    "offload_kqv",
    "chat_format",
    "seed",
)
_OPTION_TYPES: dict[str, type[int | float | str]] = {
    **dict.fromkeys(("n_ctx", "n_batch", "n_ubatch", "n_threads", "n_threads_batch"), int),
    **dict.fromkeys(("n_gpu_layers", "type_k", "type_v", "seed", "cache_size"), int),
    **dict.fromkeys(("draft_model_num_pred_tokens", "last_n_tokens_size"), int),
    **dict.fromkeys(("rope_freq_base", "rope_freq_scale"), float),
    **dict.fromkeys(("flash_attn", "use_mmap", "offload_kqv", "swa_full"), bool),
    **dict.fromkeys(("cache", "interrupt_requests"), bool),
    **dict.fromkeys(("chat_format", "draft_model"), str),
}
DECLARATION = Declaration(
    engine="llama_cpp",
    module="llama_cpp",
    packages=("llama-cpp-python",),
    formats=("gguf",),
    backends=("cuda", "rocm", "metal", "vulkan", "cpu"),
    servings=("in_process", "managed"),
    structure_types=("f32",),
    shown=Shown(
        stages=all_stages("path"),
        calls=_CALLS,
        scenarios=("batched", "chunked", "prefix", "reused", "concurrent"),
    ),
    option_names=(*_SHARED_OPTIONS, "swa_full"),
    option_types=_OPTION_TYPES,
    adapter="runner.engines.llama_cpp.adapter",
    own_server=OwnServer(
        dialect=LlamaCppPython,
        command=command,
        health=HEALTH,
        option_names=(
            *_SHARED_OPTIONS,
            "cache",
            "cache_size",
            "chat_template_kwargs",
            "draft_model",
            "draft_model_num_pred_tokens",
            "interrupt_requests",
            "last_n_tokens_size",
        ),
    ),
    structure_options=STRUCTURE_OPTIONS,
    thread_options=("n_threads", "n_threads_batch"),
    benign_options={
        "n_threads": (1, 2),
        "n_batch": (512, 64, 33),
        "n_ubatch": (512, 32, 16),
        "flash_attn": (False, True),
        "seed": (1, 2, 3),
    },
)
