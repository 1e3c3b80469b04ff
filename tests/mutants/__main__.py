"""Change judging code a little, one change at a time, and see whether a test fails.

A change that no test notices survives: either a test is missing, or the change makes no difference
and stands in ``explained.yaml`` with the reason. The exit code is 1 when one survives unexplained.
"""

import argparse
import itertools
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatch
from pathlib import Path

import yaml

from tests.mutants.mutant import Mutant
from tests.mutants.targets import covering_tests, files, mutants_of, parses

ROOT = Path(__file__).parents[2]
EXPLAINED = Path(__file__).parent / "explained.yaml"
#: pytest's exit codes: all passed; and noticed, where a test failed or could not be collected.
_PASSED, _NOTICED = 0, (1, 2)


def chosen(root: Path, pattern: str, most: int, seed: int) -> list[Mutant]:
    """Return at most ``most`` mutants of the files that fit, drawn evenly over all of them."""
    names = [name for name in files(root) if fnmatch(name, pattern)]
    everything = [mutant for name in names for mutant in mutants_of(root, name)]
    random.Random(seed).shuffle(everything)
    return list(itertools.islice(filter(parses, everything), most))


def explained(path: Path = EXPLAINED) -> dict[tuple[str, str, str], str]:
    """Return (file, line, change) → why the change makes no difference."""
    entries = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    return {(e["file"], e["line"], e["change"]): e["reason"] for e in entries}


@contextmanager
def copied(root: Path) -> Iterator[Path]:
    """Copy what git tracks, and link what it ignores beside the shipped model."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        for name in filter(None, names):
            target = Path(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target)
        for variant in (root / "suites" / "models").glob("*/*.gguf"):
            target = Path(folder, variant.relative_to(root))
            if not target.exists():
                target.symlink_to(variant)
        yield Path(folder)


def run_tests(root: Path, tests: Sequence[str], timeout_s: float) -> str:
    """Run tests in the order given; return ``killed``, ``survived`` or ``timed out``.

    Raises:
        RuntimeError: pytest could not run them at all.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    # A change within a second of the last one, of equal length, would be hidden by a stored .pyc.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        return "timed out"
    if done.returncode not in (_PASSED, *_NOTICED):
        raise RuntimeError(f"{' '.join(command)}: {(done.stdout + done.stderr)[-2000:]}")
    return "survived" if done.returncode == _PASSED else "killed"


def outcomes(
    root: Path, mutants: Sequence[Mutant], jobs: int, timeout_s: float
) -> Iterator[tuple[Mutant, str]]:
    """Yield each mutant with what ``run_tests`` returned, as they come to their end."""
    with ExitStack() as stack:
        free: queue.Queue[Path] = queue.Queue()
        for _ in range(jobs):
            free.put(stack.enter_context(copied(root)))

        def tested(mutant: Mutant) -> str:
            copy = free.get()
            try:
                mutant.apply(copy)
                return run_tests(copy, covering_tests(mutant.file), timeout_s)
            finally:
                mutant.undo(copy)
                free.put(copy)

        with ThreadPoolExecutor(jobs) as pool:
            asked = {pool.submit(tested, mutant): mutant for mutant in mutants}
            for future in as_completed(asked):
                yield asked[future], future.result()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--most", type=int, default=40, help="how many mutants to run")
    parser.add_argument("--seed", type=int, default=1, help="which of them")
    parser.add_argument("--files", default="*", help="only files that fit this pattern")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one mutant")
    asked = parser.parse_args(arguments)
    mutants = chosen(ROOT, asked.files, asked.most, asked.seed)
    wanted = dict.fromkeys(test for mutant in mutants for test in covering_tests(mutant.file))
    with copied(ROOT) as copy:
        if (found := run_tests(copy, list(wanted), 4 * asked.timeout)) != "survived":
            print(f"without any change the tests were {found}: fix them first")
            return 1
    known, left = explained(), list[Mutant]()
    for number, (mutant, outcome) in enumerate(
        outcomes(ROOT, mutants, asked.jobs, asked.timeout), start=1
    ):
        reason = known.get((mutant.file, mutant.line_text, mutant.change))
        survived = outcome == "survived"
        says = "explained" if survived and reason is not None else outcome
        print(f"[{number}/{len(mutants)}] {says} {mutant.file}:{mutant.line}: {mutant.change}")
        if survived and reason is None:
            left.append(mutant)
            print(f"    {mutant.line_text}", flush=True)
    print(f"{len(mutants)} mutants, {len(left)} survived unexplained")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
