"""All rules of declared differences: one file beside this one and one line here for each."""

import importlib

from cluster.matrix.expected_rules.asked import Rule

#: Files of rules; an entry of a matrix names one as ``rule:``.
_RULES = (
    "bos_not_doubled",
    "calls_as_text",
    "calls_without_reason",
    "content_parts_as_list",
    "control_tokens_kept",
    "deepseek_reasoning",
    "eog_by_name",
    "first_stop_string_wins",
    "held_back_character",
    "hermes_line_break",
    "leading_space_dropped",
    "messages_rewritten",
    "no_normaliser",
    "prompt_not_penalised",
    "reasoning_in_content",
    "replacement_held_back",
    "sampler_defaults",
    "sampler_order",
    "stop_string_kept",
    "thinking_opened",
)


def _rule(name: str) -> Rule:
    found: Rule = importlib.import_module(f"cluster.matrix.expected_rules.{name}").RULE
    return found


#: Name of a rule → the rule.
RULES: dict[str, Rule] = {name: _rule(name) for name in _RULES}
