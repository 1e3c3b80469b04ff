"""Options of an engine's own server: it knows each that is accepted, and reads what is written."""

import json
import re
import subprocess
from typing import Any

import pytest

from runner.engines.registry import DECLARATIONS
from tests.engines import engine_python
from tests.paths import ROOT, TINY_CHAT

_HELP = {"llama_cpp": ("llama_cpp.server", "--help"), "mlx": ("mlx_lm", "server", "--help")}
_PROGRAM = """
import json, os, sys, urllib.request
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
sys.path.append(sys.argv[1])
from runner.engines.base import Load
from runner.engines.engine import Engine
from runner.engines.registry import DECLARATIONS
from runner.engines.servers.managed import Managed
path, engine = json.loads(sys.argv[2])
engine = Engine(name="served", serving="managed", **engine)
load = Load(path, backend="cpu", pass_="deployed", weights_type="f32", engine=engine)
server = Managed(load, DECLARATIONS[engine.engine].own_server)
messages = [{"role": "user", "content": "What is 3 + 4?"}]
body = {"model": path, "messages": messages, "max_tokens": 4, "temperature": 0}
headers = {"Content-Type": "application/json"}
url = f"{server.base_url}/chat/completions"
request = urllib.request.Request(url, json.dumps(body).encode(), headers)
json.dump(json.load(urllib.request.urlopen(request, timeout=60))["usage"], answers)
server.close()
"""


@pytest.mark.parametrize("engine", _HELP)
def test_a_server_knows_every_option_that_is_accepted_for_it(engine: str) -> None:
    asked = [engine_python(engine), "-m", *_HELP[engine]]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True)
    known = {flag.replace("-", "_") for flag in re.findall(r"--([a-z][a-z_-]*)", done.stdout)}
    assert set(DECLARATIONS[engine].options("managed")) <= known


@pytest.mark.parametrize(
    ("engine", "file", "option"),
    [
        ("mlx", "", "chat_template_args"),
        ("llama_cpp", "tiny-chat-f32.gguf", "chat_template_kwargs"),
    ],
)
def test_an_option_with_parts_reaches_the_server(engine: str, file: str, option: str) -> None:
    """Thinking opens the prompt with a tag and a line break."""
    artifact = str(TINY_CHAT / file)
    thinking, plain = (
        _prompt_tokens(engine, artifact, {option: {"enable_thinking": wanted}})
        for wanted in (True, False)
    )
    assert thinking > plain


def test_a_flag_stands_alone_or_is_left_out() -> None:
    for given in (True, False):
        assert _prompt_tokens("mlx", str(TINY_CHAT), {"use_default_chat_template": given})


def _prompt_tokens(engine: str, artifact: str, options: dict[str, Any]) -> int:
    load = json.dumps([artifact, {"engine": engine, "options": options}])
    asked = [engine_python(engine), "-c", _PROGRAM, str(ROOT), load]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout)["prompt_tokens"])
