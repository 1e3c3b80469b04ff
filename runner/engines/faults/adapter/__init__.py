"""Known faults of a loaded engine, for the self-test: each replaces the abilities that it harms.

A fault acts where that stage of the engine would, so that isolate and chain show it alike; it
needs the standard library and numpy only, and does the same each time it is given the same calls.
"""

from typing import Any

from runner.engines.abilities import ABILITIES, Adapter
from runner.engines.faults.adapter.answer import DETOKENIZE, STOP
from runner.engines.faults.adapter.base import AdapterMutation, AdapterMutationOptions
from runner.engines.faults.adapter.instrument import INSTRUMENT
from runner.engines.faults.adapter.logits import LOGITS
from runner.engines.faults.adapter.parsed import PARSE
from runner.engines.faults.adapter.prompt import TEMPLATE
from runner.engines.faults.adapter.prompt_ids import TOKENIZE
from runner.engines.faults.adapter.sampling import SAMPLING
from runner.engines.faults.adapter.state import STATE

#: Stage → name of a fault → its class.
ADAPTER_MUTATIONS: dict[str, dict[str, type[AdapterMutation]]] = {
    "instrument": INSTRUMENT,
    "template": TEMPLATE,
    "tokenize": TOKENIZE,
    "logits": LOGITS,
    "state": STATE,
    "sampling": SAMPLING,
    "stop": STOP,
    "detokenize": DETOKENIZE,
    "parse": PARSE,
}


def mutated(adapter: Adapter, fault: dict[str, Any]) -> Adapter:
    """Return the adapter with a fault in it: ``at`` and ``how`` name it, the rest are its options.

    Raises:
        KeyError: there is no such fault.
        ValueError: it works on an ability that this engine does not have, as it is served.
    """
    options = {key: value for key, value in fault.items() if key not in ("at", "how")}
    kind = ADAPTER_MUTATIONS[fault["at"]][fault["how"]]
    for name in kind.needs:
        if not adapter.has(name):
            what = ABILITIES.get(name, f"the scenario {name!r}")
            raise ValueError(
                f"the fault {fault['at']}/{fault['how']} cannot be put into this engine, "
                f"which does not show {what}"
            )
    return kind(adapter, AdapterMutationOptions(**options)).applied()
