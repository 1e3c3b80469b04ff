"""The shape of the code: no circle of imports, no file too long to read in one sitting."""

import subprocess
from graphlib import TopologicalSorter

import grimp

from tests.paths import ROOT

ROOMS = ("suites", "runner", "cluster", "analysis", "fleetqual")
LONGEST = 400


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph(*ROOMS, cache_dir=None)
    assert len(graph.modules) > 200
    imports = {m: graph.find_modules_directly_imported_by(m) for m in graph.modules}
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle


def test_no_file_of_code_is_longer_than_400_lines() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.sql"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = [ROOT / name for name in listed.stdout.split()]
    lengths = {f: len(f.read_text(encoding="utf-8").splitlines()) for f in files if f.exists()}
    assert len(lengths) > 400
    assert {str(f): n for f, n in lengths.items() if n > LONGEST} == {}
