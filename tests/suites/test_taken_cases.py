"""A suite takes cases of others: the same cases; mistakes are told with their line."""

from pathlib import Path

import pytest

from suites.errors import UserError
from suites.golden import main
from suites.loading import load_suite

SOURCE = """\
name: source
version: 1
requires: [stop]
golden_for: models/tiny-chat
cases:
  - {id: stop/one, stage: stop, tags: [eos], script: {text: Bye, eos: 0}}
  - {id: stop/two, stage: stop, tags: [string], script: {text: Bye}, stop: [y]}
  - {id: parse/one, stage: parse, tags: [calls], script: {text: Hi, eos: 0}}
  - {id: logits/one, stage: logits, text: Hi}
"""
TAKER = """\
name: taker
version: 1
requires: [stop]
golden_for: models/tiny-chat
take:
  - {suite: source.yaml, stages: [stop]}
cases:
  - {id: stop/own, stage: stop, script: {text: Bye, eos: 1}}
"""
ENTRY = "{suite: source.yaml, stages: [stop]}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "source.yaml").write_text(SOURCE)
    return tmp_path


def ids(folder: Path, entry: str = ENTRY) -> list[str]:
    (folder / "taker.yaml").write_text(TAKER.replace(ENTRY, entry))
    return [case.id for case in load_suite("taker.yaml", folder).cases]


def test_taken_cases_stand_before_the_suites_own_and_are_the_same(folder: Path) -> None:
    assert ids(folder) == ["stop/one", "stop/two", "stop/own"]
    source = load_suite("source.yaml", folder)
    taker = load_suite("taker.yaml", folder)
    assert [c.digest for c in taker.cases[:2]] == [c.digest for c in source.cases[:2]]
    assert taker.take == ()


@pytest.mark.parametrize(
    ("entry", "taken"),
    [
        ("{suite: source.yaml}", ["stop/one", "stop/two", "parse/one", "logits/one"]),
        ("{suite: source.yaml, tags: [eos, calls]}", ["stop/one", "parse/one"]),
        ("{suite: source.yaml, stages: [stop], tags: [eos, calls]}", ["stop/one"]),
        ('{suite: source.yaml, cases: ["*/one"]}', ["stop/one", "parse/one", "logits/one"]),
        ('{suite: source.yaml, stages: [parse, logits], cases: ["p*"]}', ["parse/one"]),
    ],
)
def test_what_an_entry_gives_narrows_it_down(folder: Path, entry: str, taken: list[str]) -> None:
    assert ids(folder, entry) == [*taken, "stop/own"]


def test_a_suite_may_hold_nothing_but_what_it_takes(folder: Path) -> None:
    (folder / "taker.yaml").write_text(TAKER.split("cases:")[0])
    assert len(load_suite("taker.yaml", folder).cases) == 2


def test_what_is_taken_of_a_taker_comes_along(folder: Path) -> None:
    ids(folder)
    third = TAKER.replace("name: taker", "name: third").replace("source.yaml", "taker.yaml")
    (folder / "third.yaml").write_text(third.replace("stop/own", "stop/third"))
    found = [case.id for case in load_suite("third.yaml", folder).cases]
    assert found == ["stop/one", "stop/two", "stop/own", "stop/third"]


def test_a_taken_suites_name_is_no_part_of_the_takers_identity(folder: Path) -> None:
    ids(folder)
    digest = load_suite("taker.yaml", folder).digest
    (folder / "source.yaml").rename(folder / "renamed.yaml")
    ids(folder, ENTRY.replace("source", "renamed"))
    assert load_suite("taker.yaml", folder).digest == digest


#: An entry, the line and the words of what is told.
MISTAKES = [
    ("{suite: sauce.yaml}", 6, ["there is no suite file"]),
    ("{suite: smok}", 6, ["did you mean 'smoke'?"]),
    ("{suite: source.yaml, stage: [stop]}", 6, ["unknown key 'stage'", "'stages'"]),
    ("{suite: source.yaml, stages: [stopp]}", 6, ["did you mean 'stop'?"]),
    ("{suite: source.yaml, stages: [chain]}", 6, ["unknown stage of the suite 'source'", "parse"]),
    ("{suite: source.yaml, tags: [eoss]}", 6, ["'eoss'", "did you mean 'eos'?"]),
    ('{suite: source.yaml, cases: ["stop/thre*"]}', 6, ["'stop/thre*'", "stop/two"]),
    ("{suite: source.yaml, stages: [parse], tags: [eos]}", 6, ["no case of the suite 'source'"]),
    ("{suite: taker.yaml}", 6, ["would take cases from itself"]),
    (f"{ENTRY}\n  - {ENTRY}", 7, ["'stop/one' is already taken"]),
]


@pytest.mark.parametrize(("entry", "line", "words"), MISTAKES)
def test_a_mistake_is_told_with_its_line(
    folder: Path, entry: str, line: int, words: list[str]
) -> None:
    with pytest.raises(UserError) as raised:
        ids(folder, entry)
    assert f"taker.yaml:{line}" in str(raised.value)
    for word in words:
        assert word in str(raised.value)


def test_an_own_case_with_a_taken_id_is_told_with_its_line(folder: Path) -> None:
    (folder / "taker.yaml").write_text(TAKER.replace("stop/own", "stop/two"))
    with pytest.raises(UserError, match=r"(?s)taker\.yaml:8.*'stop/two' is already taken"):
        load_suite("taker.yaml", folder)


@pytest.mark.parametrize("other", ["golden_for: models/other\n", ""])
def test_golden_answers_of_another_model_are_not_taken(folder: Path, other: str) -> None:
    text = SOURCE.replace("golden_for: models/tiny-chat\n", other)
    (folder / "source.yaml").write_text(text)
    with pytest.raises(UserError, match=r"taker\.yaml:6.*were written for"):
        ids(folder)


def test_two_suites_that_take_of_each_other_are_told(folder: Path) -> None:
    ids(folder)
    (folder / "source.yaml").write_text(
        SOURCE.replace("cases:\n", "take:\n  - {suite: taker.yaml}\ncases:\n")
    )
    with pytest.raises(UserError, match=r"source\.yaml:6.*would take cases from itself"):
        load_suite("taker.yaml", folder)


def test_a_mistake_in_the_taken_file_is_told_of_that_file(folder: Path) -> None:
    (folder / "source.yaml").write_text(SOURCE.replace("eos: 0}}", "eso: 0}}", 1))
    with pytest.raises(UserError, match=r"source\.yaml:6"):
        ids(folder)


def test_golden_fields_are_computed_for_the_suites_own_cases_only(folder: Path) -> None:
    (folder / "taker.yaml").write_text(
        TAKER.replace(
            "  - {id: stop/own, stage: stop, script: {text: Bye, eos: 1}}\n",
            "  - id: stop/own\n    stage: stop\n    script: {text: Bye, eos: 1}\n",
        )
    )
    path = folder / "taker.yaml"
    assert main([str(path), "--check"]) == 1
    assert main([str(path)]) == 0
    assert main([str(path), "--check"]) == 0
    taken, own = (
        load_suite("taker.yaml", folder).cases[0],
        load_suite("taker.yaml", folder).cases[2],
    )
    assert taken.golden.script_ids is None
    assert own.golden.script_ids is not None
    assert (folder / "source.yaml").read_text() == SOURCE


def test_the_program_for_golden_fields_tells_what_cannot_be_taken(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "taker.yaml").write_text(TAKER.replace("[stop]}", "[chain]}"))
    assert main([str(folder / "taker.yaml")]) == 2
    assert "taker.yaml:6" in capsys.readouterr().err
