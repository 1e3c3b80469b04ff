"""A small suite, frozen by the real reference engine, and interpreters that fail on purpose."""

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.engines.engine import Engine
from runner.freeze import freeze
from runner.model.artifact import describe_variant, model_digests
from runner.model.computation import computation_digest
from runner.order import CellOrder, Model, Variant, WorkOrder
from suites.stages import Serving
from suites.suite import Case, Golden, Script, Suite
from tests.engines import engine_python
from tests.paths import TINY_CHAT

OrderMaker = Callable[..., WorkOrder]

HELLO = ({"role": "user", "content": "Hello!"},)

#: What an order asks of an engine where a test asks for nothing else: vLLM parses as it is told.
_OPTIONS: dict[str, dict[str, object]] = {
    "llama_cpp": {"n_ctx": 1024},
    "vllm": {
        "tool_call_parser": "hermes",
        "reasoning_parser": "deepseek_v3",
        "enforce_eager": True,
        "block_size": 32,
    },
}


@pytest.fixture(scope="session")
def small_suite() -> Suite:
    """One or two cases for every stage."""
    call = '<tool_call>\n{"name": "x", "arguments": {"a": 1}}\n</tool_call>'
    return Suite(
        name="small",
        version=1,
        requires=("template", "tokenize", "logits"),
        cases=(
            Case(id="template/hello", stage="template", messages=HELLO),
            Case(id="tokenize/plain", stage="tokenize", text="café 123"),
            Case(id="tokenize/nfd", stage="tokenize", text="cafe\u0301", tags=("nfd",)),
            Case(id="tokenize/chat", stage="tokenize", messages=HELLO),
            Case(id="logits/hello", stage="logits", messages=HELLO, max_tokens=12),
            Case(id="logits/text", stage="logits", text="The river leaves the hill at dawn"),
            Case(
                id="stop/eos",
                stage="stop",
                script=Script(text="Hello 12", eos=1, after=" never"),
                golden=Golden(text="Hello 12", finish_reason="stop"),
            ),
            Case(id="detokenize/split", stage="detokenize", script=Script(text="😀 東京 done")),
            Case(id="parse/call", stage="parse", script=Script(text=call, eos=1)),
            Case(id="chain/hello", stage="chain", messages=HELLO),
        ),
    )


@pytest.fixture(scope="session")
def make_order(small_suite: Suite) -> OrderMaker:
    """Return a maker of work orders for the shipped model."""
    weights, tokenizer = model_digests(TINY_CHAT)
    model = Model(
        name="tiny-chat",
        hf=TINY_CHAT,
        weights_digest=weights,
        tokenizer_digest=tokenizer,
        computation_digest=computation_digest(TINY_CHAT),
    )

    def make(
        engine: str = "llama_cpp",
        *,
        python: str | None = None,
        artifact: Path | None = None,
        references: tuple[str, ...] = (),
        suite: Suite = small_suite,
        deadline_s: float = 120,
        pass_: str = "structure",
        options: dict[str, object] | None = None,
        serving: Serving = "in_process",
        **changes: object,
    ) -> WorkOrder:
        form = "gguf" if engine == "llama_cpp" else "hf"
        path = artifact or (TINY_CHAT / "tiny-chat-f32.gguf" if form == "gguf" else TINY_CHAT)
        digest, kind, own = describe_variant(path, form)
        return WorkOrder(
            run_id="20260101-000000-test",
            node_id="here",
            hardware="test-machine",
            attempt=1,
            model=model,
            variant=Variant(
                name=kind.lower(),
                format=form,
                path=path,
                artifact_digest=digest,
                weights_type=kind,
                weights_digest=own,
            ),
            engine=Engine(
                name=engine,
                engine=engine,
                python=python or engine_python(engine),
                serving=serving,
                options=_OPTIONS.get(engine, {}) if options is None else options,
            ),
            backend="cpu",
            pass_=pass_,
            cells=(CellOrder(cell_id="c1:0123", series_id="s1:0123", suite=suite),),
            deadline_s=deadline_s,
            golden_model=True,
            references=references,
            **changes,
        )

    return make


@pytest.fixture(scope="session")
def references(make_order: OrderMaker, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The small suite's truth, frozen by transformers."""
    root = str(tmp_path_factory.mktemp("references"))
    freeze([make_order("transformers", freeze=True)], root)
    return root
