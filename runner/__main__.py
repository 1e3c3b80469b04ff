"""``python -m runner order.json [--results ROOT]``: run one work order here, without Ray."""

import argparse
import sys
from pathlib import Path

from pydantic import ValidationError

from runner.order import WorkOrder
from runner.supervisor import execute
from suites.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Execute the order; exit 0 when every cell ended ``ok``, 3 otherwise, 2 for a bad order."""
    parser = argparse.ArgumentParser(prog="python -m runner", description=__doc__)
    parser.add_argument("order", type=Path, help="a work order, as JSON")
    parser.add_argument("--results", default="results", help="results root (default: results)")
    chosen = parser.parse_args(arguments)
    try:
        order = WorkOrder.model_validate_json(chosen.order.read_bytes())
        outcomes = execute(order, chosen.results)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        print(f"{chosen.order}: {place}: {first['msg']}", file=sys.stderr)
        return 2
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    for outcome in outcomes:
        print(f"{outcome.cell_id} {outcome.status} {outcome.error or ''}".rstrip())
    return 0 if all(o.status == "ok" for o in outcomes) else 3


if __name__ == "__main__":
    sys.exit(main())
