"""References and floors travel between roots: by digest, verified, and only once."""

import datetime as dt
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from runner.frozen_sets import verify
from runner.sharing import share
from runner.stored.frozen_tables import FloorRow, floor_id
from runner.stored.store import Store
from suites.errors import UserError
from suites.loading import SHIPPED


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One shipped reference and the shipped floors."""
    found = tmp_path / "source"
    shutil.copytree(SHIPPED / "references" / "floors", found / "floors")
    shutil.copy(min((SHIPPED / "references").glob("*-sampling-*.parquet")), found)
    return found


def test_everything_is_copied_once_and_is_intact(root: Path, tmp_path: Path) -> None:
    target = (tmp_path / "target").as_uri()
    first = share(str(root), target)
    assert {each.done for each in first} == {"copied"}
    assert len(first) == 1 + len(list((root / "floors").iterdir()))
    assert verify([target]) == []
    assert {each.done for each in share(str(root), target)} == {"there already"}
    # And back again.
    assert {each.done for each in share(target, str(tmp_path / "third"))} == {"copied"}


@pytest.mark.parametrize(("days", "done"), [(1, "replaced"), (-1, "newer there")])
def test_of_two_sets_with_one_identity_the_newer_is_kept(
    root: Path, tmp_path: Path, days: int, done: str
) -> None:
    target = tmp_path / "target"
    share(str(root), str(target))
    path = min((root / "floors").iterdir())
    rows = [
        row | {"mean_kl": row["mean_kl"] * 2, "created": row["created"] + dt.timedelta(days=days)}
        for row in pq.read_table(path).to_pylist()
    ]
    named = floor_id(rows)
    changed = [FloorRow(**(row | {"floor_id": named})) for row in rows]
    Store(str(root)).write_to(f"floors/{path.name}", changed, FloorRow)
    found = {Path(each.path).name: each.done for each in share(str(root), str(target))}
    assert found.pop(path.name) == done
    assert set(found.values()) == {"there already"}
    assert verify([str(target)]) == []


def test_of_a_root_with_a_changed_file_nothing_is_copied(root: Path, tmp_path: Path) -> None:
    path = min((root / "floors").iterdir())
    rows = [FloorRow(**(r | {"mean_kl": 0.5})) for r in pq.read_table(path).to_pylist()]
    Store(str(root)).write_to(f"floors/{path.name}", rows, FloorRow)
    with pytest.raises(UserError, match="were changed"):
        share(str(root), str(tmp_path / "target"))
    assert not (tmp_path / "target").exists()


def test_an_empty_root_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no reference and no floor"):
        share(str(tmp_path / "none"), str(tmp_path / "target"))
