"""Cases that a suite takes from others: the same objects, so both use one stored reference."""

from collections.abc import Callable
from fnmatch import fnmatchcase

from suites.mistakes import KeyPath, Mistake
from suites.suite import Case, Suite, Take

#: Turns the mistake of a refused entry into the error to raise.
Refusal = Callable[[Mistake], Exception]


def with_taken(suite: Suite, taken: list[Suite], refusal: Refusal) -> Suite:
    """Return ``suite`` with the taken cases before its own, and with an empty ``take``.

    Args:
        suite: the suite as in its file.
        taken: the complete suites that its entries under ``take`` name, in that order.
        refusal: makes an error from a mistake in the suite's file.

    Raises:
        Exception: an entry matches no case, names something unknown, has golden answers of another
            model, or takes a case that the suite has already.
    """
    cases: list[Case] = []
    owners: dict[str, str] = {}
    for index, (entry, other) in enumerate(zip(suite.take, taken, strict=True)):
        key: KeyPath = ("take", index)
        if other.golden_for != suite.golden_for:
            raise refusal(_other_model(key, suite, other))
        for case in _chosen(key, entry, other, refusal):
            if case.id in owners:
                raise refusal(_twice(key, case, owners[case.id]))
            owners[case.id] = other.name
            cases.append(case)
    for index, case in enumerate(suite.cases):
        if case.id in owners:
            raise refusal(_twice(("cases", index, "id"), case, owners[case.id]))
    return suite.model_copy(update={"take": (), "cases": (*cases, *suite.cases)})


def _chosen(key: KeyPath, entry: Take, other: Suite, refusal: Refusal) -> list[Case]:
    """Return the cases that an entry selects; each of its values must match a case."""
    stages = list(dict.fromkeys(str(case.stage) for case in other.cases))
    tags = sorted({tag for case in other.cases for tag in case.tags})
    ids = [case.id for case in other.cases]
    for kind, given, known in (("stages", entry.stages, stages), ("tags", entry.tags, tags)):
        for at, name in enumerate(given):
            if name not in known:
                what = f"{kind.removesuffix('s')} of the suite {other.name!r}"
                raise refusal(Mistake.unknown((*key, kind, at), what, name, known))
    for at, pattern in enumerate(entry.cases):
        if not any(fnmatchcase(case_id, pattern) for case_id in ids):
            what = f"case of the suite {other.name!r}"
            raise refusal(Mistake.unknown((*key, "cases", at), what, pattern, ids))
    found = [
        case
        for case in other.cases
        if (not entry.stages or case.stage in entry.stages)
        and (not entry.tags or set(entry.tags) & set(case.tags))
        and (not entry.cases or any(fnmatchcase(case.id, p) for p in entry.cases))
    ]
    if not found:
        what = f"no case of the suite {other.name!r} matches all keys of this entry"
        raise refusal(Mistake(key, what, fix="write two entries, or remove a key"))
    return found


def _twice(key: KeyPath, case: Case, owner: str) -> Mistake:
    return Mistake(
        key,
        f"the case {case.id!r} is already taken from the suite {owner!r}",
        fix="give the case another id, or take fewer cases",
    )


def _other_model(key: KeyPath, suite: Suite, other: Suite) -> Mistake:
    return Mistake(
        (*key, "suite"),
        f"the golden answers of the suite {other.name!r} were written for "
        f"{other.golden_for or 'no model'}, those here for {suite.golden_for or 'no model'}",
        fix="take from a suite with the same `golden_for`, or write the same one here",
    )
