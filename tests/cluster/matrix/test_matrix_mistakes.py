"""Every mistake in a matrix is one message with file, line, key and cure, and exit code 2."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Spoil = Callable[[dict[str, Any]], object]


def engine(m: dict[str, Any]) -> dict[str, Any]:
    return m["engines"][0]


def variant(m: dict[str, Any]) -> dict[str, Any]:
    return m["models"][0]["variants"][0]


def taken_as_model(m: dict[str, Any], path: str) -> None:
    """Let a GGUF be the model itself."""
    m["models"][0] = {"name": "tiny-chat", "gguf": path}


def expected(**changed: Any) -> list[dict[str, Any]]:
    entry = {
        "engine": "llama_cpp",
        "stage": "tokenize",
        "tags": ["whitespace"],
        "signature": "p1:0",
        "reason": "known",
    }
    merged = {**entry, **changed}
    return [{key: value for key, value in merged.items() if value is not None}]


def external(m: dict[str, Any], **keys: Any) -> None:
    """Add a server at a URL."""
    m["engines"].append({"engine": "openai", "base_url": "http://h:1/v1", **keys})


def served(m: dict[str, Any], engine: str, **options: Any) -> None:
    """Add an engine's own server."""
    m["engines"].append({"engine": engine, "name": "s", "serving": "managed", "options": options})


def faulty(m: dict[str, Any], engine: str, at: str, how: str) -> None:
    """Add an engine's own server with a fault in its adapter."""
    served(m, engine)
    m["engines"][-1]["fault"] = {"at": at, "how": how}


#: What is spoiled, the key that the message must name, and what it must say.
MISTAKES: list[tuple[str, Spoil, str, str]] = [
    ("unknown key", lambda m: m.update(coverge="any"), "coverge", "'coverage'"),
    ("unknown model key", lambda m: m["models"][0].update(hff="x"), "models[0].hff", "'hf'"),
    ("unknown variant key", lambda m: variant(m).update(ggufs="x"), "variants[0].ggufs", "'gguf'"),
    ("unknown engine key", lambda m: engine(m).update(pases=[]), "engines[0].pases", "'passes'"),
    ("unknown engine", lambda m: engine(m).update(engine="lama_cpp"), "engine", "'llama_cpp'"),
    (
        "fault of logits that a server hides",
        lambda m: faulty(m, "mlx", "logits", "softcap"),
        "engines[1].fault",
        "needs the distribution over its whole vocabulary",
    ),
    (
        "fault of a scenario that a server does not have",
        lambda m: faulty(m, "llama_cpp", "state", "rows-mixed"),
        "engines[1].fault",
        "which llama_cpp does not show when it is served as managed",
    ),
    ("unknown backend", lambda m: m.update(backends=["cudda"]), "backends[0]", "'cuda'"),
    ("unknown suite", lambda m: m.update(suites=["smokey"]), "suites[0]", "unknown suite"),
    ("no suite file", lambda m: m.update(suites=["no/s.yaml"]), "suites[0]", "no suite file"),
    ("unknown pass", lambda m: engine(m).update(passes=["structur"]), "passes[0]", "'structure'"),
    ("unknown coverage", lambda m: m.update(coverage="each-nod"), "coverage", "'each-node'"),
    ("unknown required stage", lambda m: m.update(require=["logit"]), "require[0]", "'logits'"),
    ("unknown serving", lambda m: engine(m).update(serving="manged"), "serving", "'managed'"),
    ("unknown option", lambda m: engine(m)["options"].update(nctx=1), "options.nctx", "'n_ctx'"),
    ("no model folder", lambda m: m["models"][0].update(hf="no"), "models[0].hf", "no folder"),
    ("no gguf file", lambda m: variant(m).update(gguf="no.gguf"), "variants[0].gguf", "no file"),
    (
        "gguf is a folder",
        lambda m: variant(m).update(gguf="."),
        "variants[0].gguf",
        "is not a file",
    ),
    ("both hf and gguf", lambda m: variant(m).update(hf="."), "variants[0].hf", "exactly one"),
    ("neither hf nor gguf", lambda m: variant(m).pop("gguf"), "variants[0]", "exactly one"),
    ("negative margin", lambda m: variant(m).update(margin=-1), "variants[0].margin", "greater"),
    ("margin is text", lambda m: variant(m).update(margin="small"), "variants[0].margin", "number"),
    ("margin is nan", lambda m: variant(m).update(margin=float("nan")), "margin", "finite"),
    ("no variants", lambda m: m["models"][0].update(variants=[]), "variants", "empty"),
    ("variants left out", lambda m: m["models"][0].pop("variants"), "models[0]", "missing"),
    (
        "a model that is a folder and a file",
        lambda m: m["models"][0].update(gguf="x.gguf"),
        "models[0].hf",
        "exactly one",
    ),
    ("a model's gguf that is not there", lambda m: taken_as_model(m, "no.gguf"), "gguf", "no file"),
    ("no engines", lambda m: m.update(engines=[]), "engines", "empty"),
    ("no suites", lambda m: m.update(suites=[]), "suites", "empty"),
    ("no name", lambda m: m.pop("name"), "", "'name' is missing"),
    ("no models", lambda m: m.pop("models"), "", "'models' is missing"),
    ("model twice", lambda m: m["models"].append(m["models"][0]), "models[1]", "twice"),
    ("variant twice", lambda m: m["models"][0]["variants"].append(dict(variant(m))), "", "twice"),
    ("suite twice", lambda m: m["suites"].append("mini.yaml"), "suites[1]", "twice"),
    ("unnamed twins", lambda m: m["engines"].append(dict(engine(m))), "engines[1]", "`name:`"),
    (
        "named twins",
        lambda m: m["engines"].append({"engine": "vllm", "name": "llama_cpp"}),
        "engines[1].name",
        "two entries",
    ),
    ("bad version", lambda m: engine(m).update(version="newest"), "version", "not a version"),
    ("version is a number", lambda m: engine(m).update(version=0.3), "version", 'quotes: "0.3"'),
    (
        "external without address",
        lambda m: m["engines"].append({"engine": "openai"}),
        "engines[1]",
        "base_url",
    ),
    (
        "address of an in-process engine",
        lambda m: engine(m).update(base_url="http://127.0.0.1:1/v1"),
        "engines[0].base_url",
        "has no effect",
    ),
    (
        "no url",
        lambda m: m["engines"].append({"engine": "openai", "base_url": "127.0.0.1:8000"}),
        "engines[1].base_url",
        "http",
    ),
    (
        "query in the address",
        lambda m: m["engines"].append({"engine": "openai", "base_url": "http://h:1/v1?key=s3cr3t"}),
        "engines[1].base_url",
        "api_key_env",
    ),
    (
        "user in the address",
        lambda m: m["engines"].append({"engine": "openai", "base_url": "http://u:s3cr3t@h/v1"}),
        "engines[1].base_url",
        "api_key_env",
    ),
    (
        "secret option",
        lambda m: m["engines"].append({"engine": "vllm", "options": {"hf_token": "s3cr3t"}}),
        "engines[1].options.hf_token",
        "api_key_env",
    ),
    (
        "secret deep in the options",
        lambda m: m["engines"].append(
            {"engine": "vllm", "options": {"extra": [{"headers": {"Authorization": "s3cr3t"}}]}}
        ),
        "engines[1].options.extra[0].headers.Authorization",
        "api_key_env",
    ),
    (
        "secret flag in the options",
        lambda m: m["engines"].append(
            {"engine": "vllm", "options": {"flags": ["--api-key=s3cr3t"]}}
        ),
        "engines[1].options.flags[0]",
        "api_key_env",
    ),
    (
        "option is not finite",
        lambda m: engine(m)["options"].update(n_ctx=float("inf")),
        "engines[0].options.n_ctx",
        "finite",
    ),
    ("exclude nothing", lambda m: m.update(exclude=[{}]), "exclude[0]", "exclude everything"),
    (
        "exclude unknown key",
        lambda m: m.update(exclude=[{"engin": "llama_cpp"}]),
        "exclude[0].engin",
        "'engine'",
    ),
    (
        "exclude unknown engine",
        lambda m: m.update(exclude=[{"engine": "llamacpp"}]),
        "exclude[0].engine",
        "'llama_cpp'",
    ),
    (
        "unknown reference",
        lambda m: m.update(reference={"engine": "transformer"}),
        "reference.engine",
        "'transformers'",
    ),
    (
        "expected without reason",
        lambda m: m.update(expected=expected(reason=None)),
        "expected[0]",
        "'reason' is missing",
    ),
    (
        "expected without signature",
        lambda m: m.update(expected=expected(signature=None)),
        "expected[0]",
        "signature",
    ),
    (
        "expected of an unknown engine",
        lambda m: m.update(expected=expected(engine="vlm")),
        "expected[0].engine",
        "unknown engine",
    ),
    (
        "expected of an unknown tag",
        lambda m: m.update(expected=expected(tags=["whitspace"])),
        "expected[0].tags[0]",
        "'whitespace'",
    ),
    (
        "expected of an unknown serving",
        lambda m: m.update(expected=expected(serving="manged")),
        "expected[0].serving",
        "'managed'",
    ),
    (
        "expected range of versions",
        lambda m: m.update(expected=expected(versions="about 3")),
        "expected[0].versions",
        "range",
    ),
    ("no tries", lambda m: m.update(tries=0), "tries", "greater"),
    ("no time", lambda m: m.update(timeout_s=0), "timeout_s", "greater"),
    ("engines is a mapping", lambda m: m.update(engines={"a": 1}), "engines", "must be a list"),
    ("backends is a word", lambda m: m.update(backends="cpu"), "backends", "`backends: [cpu]`"),
    ("suites is a word", lambda m: m.update(suites="smoke"), "suites", "`suites: [smoke]`"),
    ("models is nothing", lambda m: m.update(models=None), "models", "must be a list"),
    (
        "engine is a word",
        lambda m: m.update(engines=["transformers"]),
        "engines[0]",
        "`- engine: transformers`",
    ),
    ("options is nothing", lambda m: engine(m).update(options=None), "options", "be a mapping"),
    ("reference is a word", lambda m: m.update(reference="mlx"), "reference", "be a mapping"),
    ("backend of a rival", lambda m: m.update(backends=["mps"]), "[0]", "unknown value 'mps'"),
    (
        "unknown key of a hardware",
        lambda m: m.update(hardware={"h100": {"usd_per_hr": 2}}),
        "hardware.h100.usd_per_hr",
        "usd_per_hour, tdp_w",
    ),
    ("version and python", lambda m: engine(m).update(python="p", version="1"), "version", "one"),
    (
        "proxy in process",
        lambda m: engine(m).update(proxy={"how": "tools-dropped"}),
        "engines[0].proxy",
        "needs a server",
    ),
    ("dialect that nobody speaks", lambda m: external(m, dialect="tgi"), "dialect", "'tgi'"),
    ("port too large", lambda m: external(m, base_url="http://h:99999/v1"), "base_url", "65535"),
    ("port is no number", lambda m: external(m, base_url="http://h:abc/v1"), "base_url", "65535"),
    ("half a bracket", lambda m: external(m, base_url="http://[h/v1"), "base_url", "brackets"),
    ("no host", lambda m: external(m, base_url="http://:80/v1"), "base_url", "no host"),
    (
        "reference at a URL",
        lambda m: m.update(reference={"engine": "openai"}),
        "reference.engine",
        "runs in process",
    ),
    (
        "reference that reads GGUF alone",
        lambda m: m.update(reference={"engine": "llama_cpp"}),
        "reference.engine",
        "Hugging Face folders",
    ),
    (
        "option of the library at mlx's server",
        lambda m: served(m, "mlx", dtype="f32"),
        "engines[1].options.dtype",
        "mlx's own server",
    ),
    (
        "option of the library at llama.cpp's server",
        lambda m: served(m, "llama_cpp", swa_full=True),
        "engines[1].options.swa_full",
        "llama_cpp's own server",
    ),
    (
        "option of the server in process",
        lambda m: m["engines"].append({"engine": "mlx", "options": {"chat_template_args": {}}}),
        "engines[1].options.chat_template_args",
        "unknown mlx option",
    ),
]


@pytest.mark.parametrize(
    ("spoil", "key", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES]
)
def test_a_mistake_is_one_message_with_its_line_and_exit_code_2(
    spoil: Spoil,
    key: str,
    words: str,
    right_matrix: dict[str, Any],
    write_matrix: Callable[[dict[str, Any] | str], Path],
    exit_of: Callable[..., tuple[int, str, str]],
) -> None:
    spoil(right_matrix)
    path = write_matrix(right_matrix)
    code, out, err = exit_of("plan", path)
    assert (code, out) == (2, "")
    assert err.count("error:") == 1
    assert "Traceback" not in err
    assert words in err
    assert "s3cr3t" not in err
    assert key in err.splitlines()[0]
    line = int(err.removeprefix(f"error: {path}:").split(":")[0])
    last = key.split(".")[-1].split("[")[0]
    if last in ("coverge", "hff", "ggufs", "pases", "nctx", "margin", "coverage", "version"):
        assert last in path.read_text().splitlines()[line - 1]


TEXTS = [
    ("not yaml", "name: [a\nsuites: b", "not valid YAML"),
    ("tab", "name: a\n\tsuites: [b]", "not valid YAML"),
    ("empty", "", "not a mapping"),
    ("a list", "- name: a", "not a mapping"),
    ("key twice", "name: a\nsuites: [x]\nname: b", "given twice (first in line 1)"),
    ("python object", "name: !!python/object/apply:os.system [ls]", "is not supported"),
    ("anchor bomb", "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(8)
    ), "anchors"),
    ("anchor within itself", "name: &a [*a]", "anchor"),
    ("half a surrogate pair", 'name: a\nsuites: ["\\ud800"]', "suites[0]: the text has half of"),
    ("half a surrogate pair as key", 'name: a\n"\\udc00": 1', ":2: a key has half"),
    ("infinite by overflow", "name: a\nversion: 1e999", ":2: version: inf is not a finite"),
    ("nested too deep", "name: " + "[" * 60 + "]" * 60, "levels"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), [t[1:] for t in TEXTS], ids=[t[0] for t in TEXTS])
def test_a_file_that_is_no_matrix_is_one_message_too(
    text: str,
    words: str,
    write_matrix: Callable[[dict[str, Any] | str], Path],
    exit_of: Callable[..., tuple[int, str, str]],
) -> None:
    code, out, err = exit_of("plan", write_matrix(text))
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("error:") == 1
    assert words in err


def test_a_missing_matrix_is_told(exit_of: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = exit_of("plan", "nowhere.yaml")
    assert code == 2
    assert "nowhere.yaml: there is no such file" in err


@pytest.mark.parametrize(
    "secret", ["sk-proj-abcdefghijkl", "hf_AbCdEfGhIjKlMnOp", "AKIAIOSFODNN7EXAMPLE"]
)
def test_a_key_in_the_matrix_is_refused_and_not_repeated(
    secret: str,
    right_matrix: dict[str, Any],
    write_matrix: Callable[[dict[str, Any] | str], Path],
    exit_of: Callable[..., tuple[int, str, str]],
) -> None:
    entry = {"engine": "openai", "base_url": "http://127.0.0.1:1/v1", "api_key_env": secret}
    right_matrix["engines"].append(entry)
    code, out, err = exit_of("plan", write_matrix(right_matrix))
    assert code == 2
    assert "api_key_env" in err
    assert secret not in out + err


def test_several_mistakes_are_told_first_come_first(
    right_matrix: dict[str, Any],
    write_matrix: Callable[[dict[str, Any] | str], Path],
    exit_of: Callable[..., tuple[int, str, str]],
) -> None:
    right_matrix["models"][0]["hff"] = 1
    right_matrix["zzz"] = 1
    _, _, err = exit_of("plan", write_matrix(right_matrix))
    assert "models[0].hff" in err
    assert "(1 more mistake in this file)" in err


def test_a_reference_at_a_url_is_refused_before_anything_is_frozen(
    right_matrix: dict[str, Any],
    write_matrix: Callable[[dict[str, Any] | str], Path],
    exit_of: Callable[..., tuple[int, str, str]],
) -> None:
    right_matrix["reference"] = {"engine": "openai"}
    path = write_matrix(right_matrix)
    code, out, err = exit_of("reference", "freeze", path)
    assert (code, out) == (2, "")
    assert f"{path}:" in err
    assert "reference.engine: openai cannot compute a reference" in err
