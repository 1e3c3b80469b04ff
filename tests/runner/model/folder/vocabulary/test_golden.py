"""Real vocabularies give the ids that their publishers' tokenizers give."""

import tarfile
import unicodedata
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from runner.model.folder.vocabulary.made import tokenizer_json
from runner.model.folder.vocabulary.ranked_bytes import tekken_tables
from runner.model.folder.vocabulary.sentencepiece_model import sentencepiece_tables
from runner.model.folder.vocabulary.tables import Tables, gguf_tables
from runner.model.gguf_reading import GgufReading
from suites.errors import UserError
from tests.real import real_package, real_source

pytestmark = pytest.mark.real

#: Vocabulary → how many texts it has ids for.
GOLDEN = {
    "bert-bge": 46,
    "command-r": 46,
    "deepseek-coder": 46,
    "deepseek-llm": 46,
    "falcon": 46,
    "gemma-4": 46,
    "gpt-2": 46,
    "llama-bpe": 46,
    "llama-spm": 46,
    "mpt": 46,
    "phi-3": 46,
    "qwen2": 46,
    "qwen35": 50,
    "refact": 46,
    "starcoder": 46,
}
#: Vocabularies whose ids were written without the model's NFC normaliser; see FINDINGS.md.
UNNORMALISED = {"qwen35"}
_SEPARATOR = "\n__ggml_vocab_test__\n"


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vocabularies of llama.cpp's own tests, with their texts and ids."""
    folder = tmp_path_factory.mktemp("vocabularies")
    with tarfile.open(real_source("llama_cpp_python-0.3.36.tar.gz")) as archive:
        for member in archive:
            name = Path(member.name).name
            if member.isfile() and name.startswith("ggml-vocab-"):
                stream = archive.extractfile(member)
                assert stream is not None
                (folder / name).write_bytes(stream.read())
    return folder


def _tokenizer(tables: Tables) -> Tokenizer:
    return Tokenizer.from_str(tokenizer_json(tables))


@pytest.mark.parametrize("name", GOLDEN)
def test_a_gguf_s_tables_give_the_golden_ids(vocabularies: Path, name: str) -> None:
    path = vocabularies / f"ggml-vocab-{name}.gguf"
    tokenizer = _tokenizer(gguf_tables(GgufReading(path)))
    texts = Path(f"{path}.inp").read_text(encoding="utf-8").split(_SEPARATOR)
    lines = Path(f"{path}.out").read_text().splitlines()
    assert len(lines) == GOLDEN[name]
    golden = dict(zip(texts, ([int(i) for i in line.split()] for line in lines), strict=False))
    ours = {text: tokenizer.encode(text, add_special_tokens=False).ids for text in golden}
    differ = sorted(text for text in golden if ours[text] != golden[text])
    decomposed = sorted(text for text in golden if not unicodedata.is_normalized("NFC", text))
    assert differ == (decomposed if name in UNNORMALISED else [])


@pytest.mark.parametrize("name", ["aquila", "gpt-neox"])
def test_a_file_that_does_not_say_how_text_is_split_is_refused(
    vocabularies: Path, name: str
) -> None:
    tables = gguf_tables(GgufReading(vocabularies / f"ggml-vocab-{name}.gguf"))
    with pytest.raises(UserError, match="does not say how text is split before merging"):
        tokenizer_json(tables)


@pytest.mark.parametrize("name", ["baichuan", "nomic-bert-moe"])
def test_other_kinds_of_vocabularies_give_a_text_back(vocabularies: Path, name: str) -> None:
    tokenizer = _tokenizer(gguf_tables(GgufReading(vocabularies / f"ggml-vocab-{name}.gguf")))
    text = "Hello world, this is a test."
    assert tokenizer.decode(tokenizer.encode(text).ids).strip() == text


_TEXTS = (" Hello world", "Zażółć ½ 12345\n\tx", "我想在 🦙")
#: Ids of these texts by Mistral's own libraries (sentencepiece 0.2.3 and tiktoken 0.14.0).
MISTRAL = {
    "tokenizer.model.v1": (
        [28705, 22557, 1526],
        [
            *(25819, 28882, 12023, 28900, 28705, 29039, 28705, 28740, 28750, 28770, 28781, 28782),
            *(13, 12, 28744),
        ],
        [28705, 29242, 30023, 29010, 28705, 243, 162, 169, 156],
    ),
    "tekken_240911.json": (
        [45383, 4304],
        [
            *(1090, 51376, 16211, 3723, 1032, 28504, 1032, 1049, 1050, 1051, 1052, 1053, 1010),
            47623,
        ],
        [26060, 2998, 119685, 1166, 1153],
    ),
}


@pytest.mark.parametrize("name", MISTRAL)
def test_mistral_s_files_give_the_ids_of_their_own_libraries(name: str) -> None:
    path = real_package("mistral_common") / "data" / name
    tables = tekken_tables(path) if name.endswith(".json") else sentencepiece_tables(path)
    tokenizer = _tokenizer(tables)
    for text, ids in zip(_TEXTS, MISTRAL[name], strict=True):
        assert tokenizer.encode(text, add_special_tokens=False).ids == ids
