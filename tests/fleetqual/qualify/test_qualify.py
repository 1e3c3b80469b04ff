"""``fleetqual qualify`` as a user runs it: a file in, a verdict with its scope out."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Done, fleetqual, query
from tests.engines import environments_of
from tests.paths import TINY_CHAT

F32 = TINY_CHAT / "tiny-chat-f32.gguf"


@pytest.fixture(scope="module")
def qualified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Done, Path]]:
    """The shipped GGUF as if it were a stranger's: nothing of the shipped suites is used."""
    folder = tmp_path_factory.mktemp("own")
    engines = environments_of("llama_cpp", folder, "transformers")
    results = folder / "results"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("FLEETQUAL_CACHE", str(folder / "cache"))
        yield fleetqual("qualify", F32, "--results", results, environments=engines), results


def test_a_gguf_alone_is_qualified_in_process_and_as_a_server(
    qualified: tuple[Done, Path],
) -> None:
    done, results = qualified
    assert done.code == 0, done.out + done.err
    assert "conversion was not checked" in done.err
    rows = query(results, "select engine, pass, verdict, observed_stages from qualification")
    assert {(row["engine"], row["pass"], row["verdict"]) for row in rows} == {
        ("llama_cpp", "structure", "qualified"),
        ("llama_cpp", "deployed", "qualified"),
        ("llama_cpp-server", "deployed", "qualified"),
    }


def test_the_suite_has_more_than_a_hundred_cases_of_its_own(
    qualified: tuple[Done, Path],
) -> None:
    _, results = qualified
    (row,) = query(
        results, "select count(distinct case_id) as n from traces where case_digest > ''"
    )
    assert row["n"] > 100
    (model,) = (results / "qualify").iterdir()
    assert {path.name for path in model.iterdir()} >= {"matrix.yaml", "suite.yaml"}


def test_what_it_made_can_be_run_again_and_finds_its_reference(
    qualified: tuple[Done, Path],
) -> None:
    _, results = qualified
    (model,) = (results / "qualify").iterdir()
    planned = fleetqual("plan", model / "matrix.yaml", "--results", results)
    assert planned.code == 0, planned.err
    assert "no reference" not in planned.out
    assert "no floor" not in planned.out
