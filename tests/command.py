"""The ``fleetqual`` command as a user runs it: another process, files and an exit code."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import fleetqual as front_door
from tests.paths import ROOT, TINY_CHAT

SMOKE = ROOT / "infra" / "matrices" / "smoke.yaml"
#: What the shipped engines are known to do differently.
EXPECTED = ROOT / "infra" / "expected"
#: A suite with a few cases of each stage: whole runs of it take a third of the time of ``smoke``.
FEW = ROOT / "tests" / "few.yaml"


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output, read as JSON."""
        return json.loads(self.out)


COMMAND = str(Path(sys.executable).parent / "fleetqual")


def fleetqual(
    *arguments: object,
    timeout: float = 600,
    cwd: Path | None = None,
    environments: Path | None = None,
) -> Done:
    """Run the command to its end, with the engines below ``environments`` if it is given."""
    done = subprocess.run(
        [COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd or ROOT,
        env=with_engines(environments),
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def with_engines(environments: Path | None) -> dict[str, str]:
    """Return this process's environment, in which engines are searched below a folder."""
    return os.environ | ({"FLEETQUAL_ENVIRONMENTS": str(environments)} if environments else {})


def query(results: Path, sql: str) -> list[dict[str, Any]]:
    """Return the rows of a query over a results root."""
    with front_door.open(str(results)) as opened:
        return opened.sql(sql).to_pylist()


def matrix(
    path: Path,
    variants: dict[str, Path],
    *,
    engines: list[dict[str, Any]] | None = None,
    expected: bool = True,
    margin: float = 1e-4,
    **more: Any,
) -> Path:
    """Write a matrix of GGUF variants of the shipped model, like the shipped smoke matrix."""
    shipped = yaml.safe_load(SMOKE.read_text())
    options = shipped["engines"][0]["options"]
    body = {
        "name": path.stem,
        "suites": ["smoke"],
        "models": [
            {
                "name": "tiny-chat",
                "hf": str(TINY_CHAT),
                "variants": [
                    {"name": name, "gguf": str(file), "margin": margin}
                    for name, file in variants.items()
                ],
            }
        ],
        "engines": engines
        or [{"engine": "llama_cpp", "passes": ["structure"], "options": options}],
        "backends": ["cpu"],
        "reference": shipped["reference"],
        "expected_from": [str(path) for path in sorted(EXPECTED.glob("*.yaml"))]
        if expected
        else [],
        **more,
    }
    path.write_text(yaml.safe_dump(body, sort_keys=False, allow_unicode=True))
    return path
