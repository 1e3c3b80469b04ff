"""The shipped model in a real engine, asked by short programs in the engine's own environment.

Importing an engine takes seconds and loading the model does not: one process for each engine serves
all programs of a test run, and each gets a freshly loaded adapter.
"""

import atexit
import functools
import json
import os
import subprocess
import threading
from typing import Any

import pytest

from tests.engines import engine_python
from tests.paths import ROOT, TINY_CHAT

ARTIFACTS = {"llama_cpp": TINY_CHAT / "tiny-chat-f32.gguf", "transformers": TINY_CHAT}
ENGINES = pytest.mark.parametrize("engine", sorted(ARTIFACTS))
_TIMEOUT_S = 120
_SERVER = """
import json, os, sys, traceback
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
sys.path.append({root!r})
from runner.engines.registry import load_adapter
from runner.engines.base import Load, Request
from runner.engines.engine import Engine
import numpy as np
def make(**options):
    described = Engine({engine!r}, {engine!r}, options=options)
    load = Load({path!r}, "cpu", pass_="structure", weights_type="f32", engine=described)
    return load_adapter(load)
names = dict(globals(), USER=[{{"role": "user", "content": "What is 3 + 4?"}}])
prepared = {{"": {{}}}}
for line in sys.stdin:
    first, program = json.loads(line)
    try:
        if first not in prepared:
            made = dict(names, adapter=make())
            exec(first, made)
            prepared[first] = made
        scope = {{**names, **prepared[first], "adapter": make()}}
        exec(program, scope)
        told = json.dumps([True, scope["answer"]])
    except BaseException:
        told = json.dumps([False, traceback.format_exc()])
    print(told, file=answers, flush=True)
"""


def ask(engine: str, program: str, prepared: str = "") -> Any:
    """Run ``program``, which leaves its answer in ``answer``, in the engine's environment.

    It finds an ``adapter`` in the structure pass, ``make(**options)`` for others, and ``USER``; and
    all names of ``prepared``, a program that runs once for each engine, over another adapter.
    """
    server = _server(engine)
    assert server.stdin is not None
    assert server.stdout is not None
    timer = threading.Timer(_TIMEOUT_S, server.kill)
    timer.start()
    try:
        server.stdin.write(json.dumps([prepared, program]) + "\n")
        server.stdin.flush()
        line = server.stdout.readline()
    finally:
        timer.cancel()
    if not line:
        _server.cache_clear()
        pytest.fail(f"{engine} ended, or took longer than {_TIMEOUT_S} s: {server.poll()}")
    done, answer = json.loads(line)
    assert done, answer
    return answer


@functools.cache
def _server(engine: str) -> "subprocess.Popen[str]":
    path = str(ARTIFACTS[engine])
    code = _SERVER.format(root=str(ROOT), path=path, engine=engine)
    server = subprocess.Popen(
        [engine_python(engine), "-c", code, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Threads that wait for each other on a busy machine cost more than they bring here.
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    atexit.register(server.kill)
    return server
