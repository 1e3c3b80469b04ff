"""Tables of ``fleetqual explain``: the logits' numbers, the sampler's draws, the chain's swaps."""

from typing import Any

from rich.console import Console
from rich.table import Table

from analysis.showing.output import plain


def print_swaps(out: Console, swaps: list[dict[str, Any]]) -> None:
    """Print what came of each exchange of one part of the chain, by case."""
    out.print()
    out.rule(plain("swaps: one part of the chain exchanged", "bold"), align="left")
    table = Table("case", "symptom", "swap", "what came")
    for row in swaps:
        cells = [row["case_id"], row["symptom"], row["swap"], row["says"]]
        table.add_row(*(plain(c, "green" if row["cures"] else "") for c in cells))
    out.print(table)


def print_draws(out: Console, draws: list[dict[str, Any]]) -> None:
    """Print what was asked of the sampler, what it drew, and what that looks like."""
    for row in draws:
        out.print(plain(f"case {row['case_id']} asked {row['asked']}", "bold", 1000))
        facts = [
            f"{row['n']} draws",
            f"χ² {_number(row['chi2'])} of {row['degrees']} degrees, p {_number(row['p_value'])}",
            f"total variation distance {_number(row['effect'])}",
            f"detectable with power {row['power']:g}: w ≥ {_number(row['detectable'])}",
        ]
        out.print(plain("  " + " · ".join(facts)))
        if row["looks_like"]:
            out.print(plain(f"  looks like: {row['looks_like']}", limit=1000))
        table = Table("token id", "rank", "drawn", "expected", "standing")
        for token in row["tokens"]:
            shown = [token["token_id"], token["place"], token["drawn"]]
            cells = [*shown, _number(token["expected_draws"]), token["standing"]]
            table.add_row(*(plain(c) for c in cells))
        out.print(table)


def print_numbers(out: Console, stage: dict[str, Any], found: dict[str, Any]) -> None:
    """Print a ``logits`` verdict's numbers, its profile, its cases and its worst positions."""
    bounds = f"[{_number(stage['ci_low'])}, {_number(stage['ci_high'])}]"
    out.print(
        plain(
            f"mean KL {_number(stage['effect'])} nats, 95 % bounds {bounds}, "
            f"margin δ {_number(stage['margin'])}, p against the floor "
            f"{_number(stage['p_value'])} ({stage['floor_id'] or 'no floor'})"
        )
    )
    for row in found["profiles"]:
        out.print(
            plain(
                f"{row['probe']} over {row['positions']} positions: {row['shape']}; {row['told']}"
            )
        )
    table = Table(
        "case", "probe", "positions", "mean KL", "max KL", "other top token", "not finite"
    )
    for row in found["numbers"]:
        shown = [_number(row[k]) for k in ("mean_kl", "max_kl")]
        cells = [row["case_id"], row["probe"], row["positions"], *shown, row["flips"]]
        table.add_row(*(plain(c) for c in [*cells, row["nonfinite"]]))
    out.print(table)
    for row in found["worst_positions"]:
        title = f"{row['case_id']} ({row['probe']}) position {row['position']}: " + (
            "NaN or infinite"
            if row["nonfinite"]
            else f"KL {_number(row['kl'])}, the reference's margin {_number(row['margin'])} nats"
        )
        tops = Table("rank", "expected id", "ln p", "seen id", "ln p", title=plain(title))
        for rank in range(max(len(row["expected"]), len(row["seen"]))):
            left, right = _pair(row["expected"], rank), _pair(row["seen"], rank)
            style = "red" if left[0] != right[0] else ""
            tops.add_row(*(plain(c, style) for c in [rank + 1, *left, *right]))
        out.print(tops)


def _pair(pairs: list[list[Any]], rank: int) -> list[str]:
    if rank >= len(pairs):
        return ["–", "–"]
    token, logp = pairs[rank]
    return [str(token), "not kept" if logp is None else f"{logp:.4f}"]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
