"""The table of swaps and what each is expected to show."""

from tests.analysis.bare import bare


def test_every_rule_speaks_of_known_swaps_and_of_stages() -> None:
    names = ("swap_kinds", "swap_rules", "stages", "causes")
    with bare(*(f"sources.{name}" for name in names)) as con:
        foreign = con.execute(
            "WITH swaps AS (SELECT swap FROM sources.swap_kinds), "
            "known_stages AS (SELECT stage FROM sources.stages) "
            "SELECT swap FROM sources.swap_rules WHERE swap NOT IN (FROM swaps) UNION "
            "SELECT p FROM (SELECT unnest(controls) AS p FROM sources.swap_rules) "
            "WHERE p NOT IN (FROM swaps) UNION "
            "SELECT part FROM sources.swap_rules WHERE part NOT IN (FROM known_stages) UNION "
            "SELECT stage FROM sources.causes WHERE stage NOT IN (FROM known_stages)"
        ).fetchall()
        mute = con.execute(
            "SELECT * FROM sources.swap_rules "
            "WHERE needed = (alone IS NOT NULL) OR needed AND len(controls) = 0"
        ).fetchall()
    assert foreign == []
    assert mute == [], "a row either needs its controls or says why an effect may stand alone"
