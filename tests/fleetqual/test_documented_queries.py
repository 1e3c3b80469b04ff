"""Every query of docs/queries.md runs over a real run, with the columns that it promises."""

import re
from typing import Any

import pytest

import fleetqual as front_door
from tests.command import fleetqual, matrix
from tests.engines import environments_of
from tests.paths import ROOT, TINY_CHAT

DOCUMENT = (ROOT / "docs" / "queries.md").read_text(encoding="utf-8")
SECTIONS = dict(
    section.split("\n", maxsplit=1) for section in re.split(r"^## ", DOCUMENT, flags=re.M)[1:]
)
OPTIONS = {"n_ctx": 1024, "n_threads": 1, "n_threads_batch": 1}
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rows]:
    """What each query says of a run in which nothing is declared, by the title of its section."""
    folder = tmp_path_factory.mktemp("documented")
    path = matrix(
        folder / "matrix.yaml",
        {name: TINY_CHAT / f"tiny-chat-{name}.gguf" for name in ("f32", "q8_0")},
        engines=[{"engine": "llama_cpp", "passes": ["deployed"], "options": OPTIONS}],
        expected=False,
        suites=["conformance", "variance"],
    )
    results, engines = folder / "results", environments_of("llama_cpp", folder)
    done = fleetqual("run", path, "--results", results, environments=engines)
    assert done.code == 1, done.out + done.err
    with front_door.open(str(results)) as opened:
        return {title: opened.sql(_sql(text)).to_pylist() for title, text in SECTIONS.items()}


def test_every_section_has_one_query_and_names_its_columns() -> None:
    assert len(SECTIONS) >= 4
    for title, text in SECTIONS.items():
        assert text.count("```sql") == 1, title
        assert _promised(text), title


@pytest.mark.parametrize("title", SECTIONS)
def test_a_documented_query_answers_with_the_columns_that_it_promises(
    answers: dict[str, Rows], title: str
) -> None:
    assert answers[title]
    assert list(answers[title][0]) == _promised(SECTIONS[title])


def test_the_stage_that_fails_everywhere_comes_first(answers: dict[str, Rows]) -> None:
    first = answers[_title("most often")][0]
    assert first["share"] == 1
    assert first["divergent"] == first["judged"] >= 2


def test_llama_cpp_is_seen_to_diverge_where_it_has_no_normaliser(answers: dict[str, Rows]) -> None:
    classes = {(row["stage"], row["class"]): row for row in answers[_title("introduces")]}
    found = classes["tokenize", "nfd"]
    assert found["introduced_in"].startswith("0.3.")
    assert (found["last_without"], found["declared"]) == (None, False)
    assert found["first_case"].startswith("tokenize/nfd-")


def test_the_prompt_moves_outcomes_and_one_machine_has_no_share(answers: dict[str, Rows]) -> None:
    rows = answers[_title("What share")]
    right = {row["component"]: row for row in rows if row["outcome"] == "right"}
    assert right["prompt"]["share"] > 0.1
    assert right["engine"]["levels"] == 2
    assert right["hardware"]["share"] is None
    shares = [row["share"] for row in right.values() if row["share"] is not None]
    assert sum(shares) == pytest.approx(1, abs=1e-3)


def test_a_case_that_detects_names_what_it_costs(answers: dict[str, Rows]) -> None:
    cases = {row["case_id"]: row for row in answers[_title("detect best")]}
    found = cases["tokenize/nfd-acute"]
    assert found["rate"] == 1
    assert found["shown"] == found["cells"] == 2
    assert found["tokens_a_cell"] > 0


def _title(word: str) -> str:
    (found,) = (title for title in SECTIONS if word in title)
    return found


def _sql(text: str) -> str:
    (found,) = re.findall(r"```sql\n(.*?)```", text, flags=re.S)
    return str(found)


def _promised(text: str) -> list[str]:
    return re.findall(r"^\| `([a-z_]+)` \|", text, flags=re.M)
