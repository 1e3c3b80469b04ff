"""Checks of values in a matrix: names, addresses, options and faults; each returns its mistake."""

import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cluster.matrix.injected_faults import AdapterFault, ProxyFault
from runner.engines.abilities import ABILITIES
from runner.engines.faults.adapter import ADAPTER_MUTATIONS
from runner.engines.faults.gateway.registry import PROXY_MUTATIONS
from runner.engines.registry import DECLARATIONS, DIALECTS, shown_as
from suites.mistakes import Mistake
from suites.stages import Serving

NAME = r"^[A-Za-z0-9][A-Za-z0-9._@/+-]{0,99}$"
_ADDRESS = re.compile(r"https?://[^\s@/?#]+(/[^\s?#]*)?")


def bad_address(url: str) -> Mistake | None:
    """Return what is wrong with a server's address; None if nothing is.

    The message does not repeat the address: it may hold a password.
    """
    if not _ADDRESS.fullmatch(url):
        return Mistake(
            (),
            "base_url is not an http(s) address, or it has a user, a password or a query",
            fix="write e.g. http://127.0.0.1:8000/v1, and as api_key_env the name of the "
            "environment variable that holds the key: addresses are stored with the results",
        )
    try:
        parts = urllib.parse.urlsplit(url)
        is_one = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if is_one:
        return None
    return Mistake(
        (),
        "base_url has no host, or an invalid port",
        fix="write http://HOST:PORT/v1 with a port from 1 to 65535; an IPv6 host needs "
        "brackets: http://[::1]:8000/v1",
    )


def known_engine(name: str) -> str:
    """Return an engine's name; raises a pydantic error that names the known ones."""
    if name not in DECLARATIONS:
        raise Mistake.unknown((), "engine", name, tuple(DECLARATIONS)).pydantic_error()
    return name


def known_dialect(name: str) -> str:
    """Return a dialect's name; raises a pydantic error that names the known ones."""
    known = ("auto", *DIALECTS)
    if name not in known:
        raise Mistake.unknown((), "dialect", name, known).pydantic_error()
    return name


def unknown_option(engine: str, serving: Serving, options: Iterable[str]) -> Mistake | None:
    """Return the first option that an engine does not have as it is served; None if it has all.

    An engine's own server has other options than its library.
    """
    names = DECLARATIONS[engine].options(serving)
    kind = f"option of {engine}'s own server" if serving == "managed" else f"{engine} option"
    for option in options:
        if option not in names:
            return Mistake.unknown(("options", option), kind, option, names)
    return None


#: Type of an option → its name in the words of YAML, and how to write one.
_TYPE_NAMES: dict[type, tuple[str, str]] = {
    bool: ("true or false", "write true or false, without quotes"),
    int: ("a whole number", "write a number such as 1024, without quotes"),
    float: ("a number", "write a number such as 10000.0, without quotes"),
    str: ("a text", "write it in quotes"),
}


def mistyped_option(engine: str, options: Mapping[str, Any]) -> Mistake | None:
    """Return the first option whose value has another type than the engine takes; else None."""
    types = DECLARATIONS[engine].option_types
    for name, value in options.items():
        wanted = types.get(name)
        if wanted is None or value is None or _is_a(value, wanted):
            continue
        kind, fix = _TYPE_NAMES[wanted]
        what = f"the {engine} option {name} is {value!r}, but it takes {kind}"
        return Mistake(("options", name), what[:300], fix=fix)
    return None


def _is_a(value: Any, wanted: type) -> bool:
    """Whether a value has a type; a whole number is a number, true and false are none."""
    if isinstance(value, bool) or wanted is bool:
        return isinstance(value, bool) and wanted is bool
    return isinstance(value, int | float) if wanted is float else isinstance(value, wanted)


def unknown_adapter_fault(fault: AdapterFault) -> Mistake | None:
    """Return what is wrong with the name of an adapter's fault; None if the fault exists."""
    if fault.at not in ADAPTER_MUTATIONS:
        return Mistake.unknown(("at",), "stage of a fault", fault.at, tuple(ADAPTER_MUTATIONS))
    if fault.how not in ADAPTER_MUTATIONS[fault.at]:
        known = tuple(ADAPTER_MUTATIONS[fault.at])
        return Mistake.unknown(("how",), f"fault at {fault.at}", fault.how, known)
    return None


def misplaced_adapter_fault(
    engine: str, serving: Serving, dialect: str | None, fault: AdapterFault
) -> Mistake | None:
    """Return why a fault cannot act on an engine as it is served; None if it can.

    A fault replaces abilities of the engine. It needs those that this serving must show.
    """
    shown = shown_as(engine, serving, dialect)
    if shown is None:
        return None
    for ability in ADAPTER_MUTATIONS[fault.at][fault.how].needs:
        if not shown.has(ability):
            what = ABILITIES.get(ability, f"the scenario {ability!r}")
            return Mistake(
                ("fault",),
                f"the fault {fault.at}/{fault.how} needs {what}, which {engine} does not show "
                f"when it is served as {serving}",
                fix="serve the engine in another way, or use a fault that its chats can show",
            )
    return None


def unknown_proxy_fault(proxy: ProxyFault) -> Mistake | None:
    """Return what is wrong with the name of a proxy's fault; None if the fault exists."""
    if proxy.how in PROXY_MUTATIONS:
        return None
    return Mistake.unknown(("how",), "fault of a proxy", proxy.how, tuple(PROXY_MUTATIONS))


def refuse_duplicates(kind: str, key: str, names: Sequence[str]) -> None:
    """Raise the mistake of a list at ``key`` that has a name twice, as a pydantic error."""
    for index, name in enumerate(names):
        if name in names[:index]:
            raise Mistake(
                (key, index), f"{kind} {name!r} is named twice", fix="remove or rename one"
            ).pydantic_error()
