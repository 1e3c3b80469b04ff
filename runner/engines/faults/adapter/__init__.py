"""Known faults as mutations of a loaded engine's adapter, for the self-test.

A mutation acts where that stage of the engine would, so that isolate and chain show it alike; it
needs the standard library and numpy only, and does the same each time it is given the same calls.
"""

from typing import Any

from runner.engines.base import Adapter
from runner.engines.faults.adapter import instrument, logits, sampling, state
from runner.engines.faults.adapter.answer import DETOKENIZE, PARSE, STOP
from runner.engines.faults.adapter.base import Mutated, Spec
from runner.engines.faults.adapter.prompt import TEMPLATE, TOKENIZE

#: Stage → name of a mutation → its class.
MUTATIONS: dict[str, dict[str, type[Mutated]]] = {
    "instrument": instrument.MUTATIONS,
    "template": TEMPLATE,
    "tokenize": TOKENIZE,
    "logits": logits.MUTATIONS,
    "state": state.MUTATIONS,
    "sampling": sampling.MUTATIONS,
    "stop": STOP,
    "detokenize": DETOKENIZE,
    "parse": PARSE,
}


def mutated(adapter: Adapter, fault: dict[str, Any]) -> Adapter:
    """Return the adapter with a fault in it: ``at`` and ``how`` name it, the rest says how strong.

    Raises:
        KeyError: there is no such mutation.
    """
    spec = {key: value for key, value in fault.items() if key not in ("at", "how")}
    return MUTATIONS[fault["at"]][fault["how"]](adapter, Spec(**spec))
