"""Measure tiny-chat on held-out instances: greedy answers through the shipped files alone.

    python suites/models/tiny-chat/evaluate.py [--gguf FILE]

prints, for each task, how many of 100 answers are exactly right, including the token that ends
the turn.  With ``--gguf`` (needs llama-cpp-python) it also prints how many rendered prompts,
token ids and greedy answers of llama.cpp equal those of transformers.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from conversation import BOS, Case, draw_case, render
from tasks import TASKS
from transformers import AutoModelForCausalLM, AutoTokenizer

SEED: Final = 777
THREADS: Final = 2
FIXED_TEXT: Final = {"count_long": 2, "words": 12, "poem": 2}
"""Number of cases of tasks with few different texts."""


@dataclass(frozen=True)
class Outcome:
    """What transformers did with one case."""

    case: Case
    prompt: str
    prompt_ids: list[int]
    output_ids: list[int]
    right: bool


def split_messages(case: Case) -> tuple[list[dict[str, Any]], str]:
    """Separate a case into the prompt's messages and the text of the right answer."""
    labels = [case.task] * len(case.messages)
    return case.messages[:-1], render(case.messages, case.tools, labels)[-1].answer


class Reference:
    """The model in transformers: fp32 on the CPU, greedy."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.model.requires_grad_(False)

    def run(self, case: Case) -> Outcome:
        """Answer one case."""
        messages, answer = split_messages(case)
        prompt = self.tokenizer.apply_chat_template(
            messages,
            tools=case.tools,
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=case.thinking,
        )
        labels = [case.task] * len(case.messages)
        *before, last = render(case.messages, case.tools, labels)
        rendered = BOS + "".join(s.prompt + s.answer for s in before) + last.prompt
        if prompt != rendered:
            raise AssertionError(f"template and training text differ:\n{prompt}\n{rendered}")
        ids = self.tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
        full = self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=min(500, self.model.config.max_position_embeddings - ids.shape[1]),
            do_sample=False,
        )[0]
        output = full[ids.shape[1] :].tolist()
        right = self.tokenizer.decode(output, skip_special_tokens=False) == answer
        return Outcome(case, prompt, ids[0].tolist(), output, right)


class Llama:
    """The model in llama.cpp: one file, key/value cache in f32, greedy."""

    def __init__(self, path: Path) -> None:
        import llama_cpp
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        f32 = llama_cpp.GGML_TYPE_F32
        self.model: Any = llama_cpp.Llama(
            str(path), n_ctx=1024, n_threads=THREADS, type_k=f32, type_v=f32, verbose=False
        )
        vocabulary = llama_cpp.llama_model_get_vocab(self.model._model.model)
        self.ends: list[int] = [
            i for i in range(self.model.n_vocab()) if llama_cpp.llama_vocab_is_eog(vocabulary, i)
        ]
        self.template: Any = Jinja2ChatFormatter(
            template=self.model.metadata["tokenizer.chat_template"],
            bos_token=BOS,
            eos_token=self._piece(self.model.token_eos()),
        )

    def _piece(self, token: int) -> str:
        return str(self.model.detokenize([token], special=True).decode())

    def prompt(self, case: Case) -> str:
        """Render the prompt with the file's own template."""
        messages, _ = split_messages(case)
        extra = {"enable_thinking": True} if case.thinking else {}
        return str(self.template(messages=messages, tools=case.tools, **extra).prompt)

    def tokenize(self, text: str) -> list[int]:
        """Turn text into ids, adding nothing."""
        ids: list[int] = self.model.tokenize(text.encode(), add_bos=False, special=True)
        return ids

    def generate(self, prompt_ids: Sequence[int], limit: int) -> list[int]:
        """Continue a prompt by at most ``limit`` tokens, up to an end of generation."""
        self.model.reset()
        output: list[int] = []
        for token in self.model.generate(prompt_ids, temp=0.0, top_k=1, repeat_penalty=1.0):
            output.append(token)
            if token in self.ends or len(output) >= limit:
                break
        return output


def compare_with_llama(path: Path, outcomes: list[Outcome]) -> None:
    """Print how many cases llama.cpp treats exactly as transformers does."""
    engine = Llama(path)
    checks: dict[str, Callable[[Outcome], bool]] = {
        "prompts": lambda o: engine.prompt(o.case) == o.prompt,
        "token ids": lambda o: engine.tokenize(o.prompt) == o.prompt_ids,
        "answers": lambda o: engine.generate(o.prompt_ids, len(o.output_ids)) == o.output_ids,
    }
    print(f"\n{path.name}: end-of-generation ids {engine.ends}")
    for name, check in checks.items():
        equal = sum(check(outcome) for outcome in outcomes)
        print(f"{name} equal to transformers: {equal} of {len(outcomes)}", flush=True)


def main() -> None:
    """Evaluate all tasks and print a table in Markdown."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Evaluate tiny-chat on held-out instances.")
    parser.add_argument("--model", type=Path, default=here, help="HF directory to evaluate")
    parser.add_argument("--cases", type=int, default=100, help="instances a task")
    parser.add_argument("--tasks", default=",".join(TASKS), help="comma-separated")
    parser.add_argument("--gguf", type=Path, help="compare llama.cpp with this file, too")
    parser.add_argument("--show", action="store_true", help="print wrong answers")
    args = parser.parse_args()
    torch.set_num_threads(min(THREADS, os.cpu_count() or 1))
    reference = Reference(args.model)
    start = time.monotonic()
    outcomes: list[Outcome] = []
    print("| task | exactly right | prompt tokens | answer tokens |\n|---|---|---|---|")
    for task in args.tasks.split(","):
        rng = random.Random(f"{SEED}/{task}")
        count = min(args.cases, FIXED_TEXT.get(task, args.cases))
        results = [reference.run(draw_case(rng, task)) for _ in range(count)]
        right = sum(result.right for result in results)
        prompts = [len(result.prompt_ids) for result in results]
        answers = [len(result.output_ids) for result in results]
        print(
            f"| {task} | {right} of {count} | {min(prompts)}-{max(prompts)} "
            f"| {min(answers)}-{max(answers)} |",
            flush=True,
        )
        if args.show:
            for result in results:
                if not result.right:
                    wrong = reference.tokenizer.decode(result.output_ids)
                    print(f"    {result.prompt[-120:]!r} -> {wrong[:200]!r}")
        outcomes += results
    print(f"\n{len(outcomes)} cases in {time.monotonic() - start:.0f} s")
    if args.gguf:
        compare_with_llama(args.gguf, outcomes)


if __name__ == "__main__":
    main()
