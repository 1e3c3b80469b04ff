"""Runs in the environment of transformers: what does it make of a template and a conversation?

One JSON object per line in, one out. The clock stands still, as in every rendering of a suite.
"""

import datetime
import importlib
import json
import sys
from typing import Any

utilities = importlib.import_module("transformers.utils.chat_template_utils")


class _Frozen(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return datetime.datetime(2025, 1, 2, 3, 4, 5, tzinfo=tz)


def main() -> None:
    utilities.datetime = _Frozen
    for line in sys.stdin:
        asked = json.loads(line)
        variables = asked["variables"]
        messages = variables.pop("messages")
        try:
            texts, _ = utilities.render_jinja_template(
                [messages], chat_template=asked["source"], **variables
            )
            answer = {"text": texts[0]}
        except Exception as error:  # whatever a template raises is its refusal
            answer = {"kind": type(error).__name__, "refused": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
