"""The report as people open it: in a browser, with evidence that would rather be code."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

from analysis.showing.report import write_report
from tests.analysis.handmade import Attempt, Bench, Cell

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
#: Would run at once, and again when the page is read by a person.
EVIL = (
    '<script>alert(1)</script><script>document.title="owned"</script>'
    '<img src=x onerror=\'document.title="owned"\'>"></details></table>'
)
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
    "--dump-dom",
]

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ,
    reason="chromium is not installed (CI must have it)",
)
#: A page's URL → its DOM after its scripts ran, and what the page wrote to the console.
Open = Callable[[str], tuple[str, list[str]]]


@pytest.fixture
def browse(tmp_path: Path) -> Open:
    def opened(url: str) -> tuple[str, list[str]]:
        assert CHROMIUM is not None, "chromium must be installed in CI"
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        done = subprocess.run(
            [CHROMIUM, *QUIET, profile, url],
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return opened


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A run with a divergent cell that writes markup everywhere, a dead one and a clean one."""
    bench = Bench(tmp_path / "results")
    bad = Cell("c1:bad", engine=f"llama{EVIL}")
    bad.only.change("template", "template/plain", prompt_text=EVIL)
    bad.only.change("stop", "stop/eos", text=EVIL)
    bad.only.change("tokenize", "tokenize/nfd", prompt_ids=[1, 7, 99])
    bad.only.logits(0.3)
    dead = Cell("c1:dead", attempts=[Attempt(status="crashed", error=EVIL, traces=[])])
    bench.cells = [bad, dead, Cell("c1:good")]
    return write_report(bench.write(), None, tmp_path / "page.html")


def test_matrix_and_drill_down_show_without_a_console_error(report: Path, browse: Open) -> None:
    dom, console = browse(report.as_uri())
    assert console == []
    matrix = dom[dom.index('<table class="heat">') :].split("</table>")[0]
    assert len(re.findall(r'<th scope="row">', matrix)) == 3
    assert re.search(r'<td class="v divergent culprit"[^>]*>.*?divergent</td>', matrix)
    details = re.findall(r'<details class="cell" id="(cell-\d)"', dom)
    assert details == ["cell-0", "cell-1", "cell-2"]
    assert "first difference" in dom
    assert "1 7 <mark>99</mark>" in dom


def test_model_output_is_shown_as_text_and_never_runs(report: Path, browse: Open) -> None:
    dom, _ = browse(report.as_uri())
    assert "<title>fleetqual " in dom
    assert "owned</title>" not in dom
    assert "<img" not in dom
    assert dom.count("<script") == 1
    assert "<script>alert(1)</script>" in unescape(re.sub(r"</?mark>", "", dom))


def test_a_link_to_a_cell_opens_it(report: Path, browse: Open) -> None:
    closed, _ = browse(report.as_uri())
    dom, console = browse(f"{report.as_uri()}#cell-2")
    assert console == []
    assert re.search(r'id="cell-2" open', dom)
    assert not re.search(r'id="cell-2" open', closed)


def test_a_script_in_the_page_is_refused_by_its_policy(report: Path, browse: Open) -> None:
    # Were an escape ever forgotten, the policy still stands; and this test can see a script run.
    page = report.read_text(encoding="utf-8")
    report.write_text(page.replace("<main>", f"<main>{EVIL}"), encoding="utf-8")
    dom, console = browse(report.as_uri())
    assert "owned</title>" not in dom
    assert any("Content Security Policy" in line for line in console)
