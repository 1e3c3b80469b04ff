"""YAML into models: positions, YAML 1.2 scalars, merges, shipped suites."""

from pathlib import Path
from typing import Any

import pytest

from suites.errors import UserError
from suites.loading import load_suite, load_yaml
from suites.suite import Suite
from suites.yaml_document import Document

CASE = "  - {id: a, stage: tokenize, text: x}\n"
HEAD = "name: s\nversion: 1\nrequires: [tokenize]\ncases:\n"


def document(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return Document(path).value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("1e-4", 1e-4),
        (".5", 0.5),
        ("010", 10),
        ("0x10", 16),
        ("0o10", 8),
        ("-3", -3),
        ("2024-01-02", "2024-01-02"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("0.32.0", "0.32.0"),
        ("~", None),
        ("", None),
        ('"\\u00e9\\t"', "é\t"),
    ],
)
def test_scalars_mean_what_yaml_1_2_says(tmp_path: Path, text: str, value: object) -> None:
    found = document(tmp_path, f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


def test_merged_keys_give_way_to_own_ones(tmp_path: Path) -> None:
    text = "base: &b {x: 1, y: 2}\nown:\n  <<: *b\n  y: 3\n"
    assert document(tmp_path, text)["own"] == {"x": 1, "y": 3}


def test_a_mistake_in_a_case_names_its_line_and_key(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(HEAD + CASE + "  - id: b\n    stage: tokenize\n    txt: x\n")
    with pytest.raises(UserError) as told:
        load_suite("s.yaml", tmp_path)
    assert f"{path}:8: cases[1].txt: unknown key 'txt'" in str(told.value)
    assert "did you mean 'text'?" in str(told.value)


def test_a_case_that_lacks_what_its_stage_needs_is_told(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(HEAD + "  - {id: b, stage: logits}\n")
    with pytest.raises(UserError, match=r"s\.yaml:5: cases\[0\]: a logits case needs messages"):
        load_yaml(path, Suite)


def test_suites_are_found_by_name_or_by_path(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(HEAD + CASE)
    assert load_suite("own.yaml", tmp_path).name == "s"
    with pytest.raises(UserError, match="unknown suite 'own'"):
        load_suite("own", tmp_path)


def test_a_file_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("suites.yaml_document.MAX_BYTES", 10)
    with pytest.raises(UserError, match="larger than"):
        document(tmp_path, "name: longer than that")
