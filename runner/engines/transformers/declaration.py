"""What is special to transformers: formats, options, what it shows, its benign configurations."""

from runner.engines.declaration import Declaration
from runner.engines.shown import Shown, all_stages
from runner.engines.transformers.benign import OPTIONS, ROUNDED_TYPES, few_floors, floors

_CALLS = {
    "instrument": "forward of the model",
    "config": "model.config, generation_config, tokenizer",
    "weights": "the safetensors files, tensor by tensor",
    "template": "tokenizer.apply_chat_template",
    "tokenize": "tokenizer.apply_chat_template, from the tokenizer's own call on",
    "logits": "forward of the model, with its KV cache",
    "state": "forward of the model over padded batches, cropped and static caches",
    "sampling": "model.generate(do_sample=True)",
    "stop": "model.generate, forced by a LogitsProcessor",
    "detokenize": "tokenizer.decode, TextStreamer",
    "parse": "tokenizer.parse_response",
    "chain": "apply_chat_template, generate, decode, parse_response",
}
DECLARATION = Declaration(
    engine="transformers",
    module="transformers",
    packages=("transformers",),
    formats=("hf",),
    backends=("cuda", "rocm", "metal", "xpu", "cpu"),
    servings=("in_process",),
    structure_types=("f32", "f16", "bf16"),
    shown=Shown(
        stages=all_stages("path"),
        calls=_CALLS,
        scenarios=("batched", "chunked", "prefix", "reused", "concurrent"),
    ),
    option_names=(
        "dtype",
        "attn_implementation",
        "threads",
        "padding",
        "prefill_chunk",
        "flush_denormal",
        "mkldnn",
        "activations",
    ),
    option_types={
        **dict.fromkeys(("dtype", "attn_implementation", "activations"), str),
        **dict.fromkeys(("threads", "padding", "prefill_chunk"), int),
        **dict.fromkeys(("flush_denormal", "mkldnn"), bool),
    },
    adapter="runner.engines.transformers.adapter",
    structure_options={"dtype": "f32"},
    thread_options=("threads",),
    benign_options=OPTIONS,
    floors=floors,
    few_floors=few_floors,
    rounded_types=ROUNDED_TYPES,
)
