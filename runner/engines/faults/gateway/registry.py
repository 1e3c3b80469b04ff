"""All mutations of a server's traffic, by the name that catalogues of faults use.

Each class says which endpoints it harms: those that take messages (chat and rendering) for what
happens to a prompt, chat and completions for parameters and answers.
"""

from runner.engines.faults.gateway import answers, requests
from runner.engines.faults.gateway.base import ProxyMutation

PROXY_MUTATIONS: dict[str, type[ProxyMutation]] = {
    # What is asked: the prompt.
    "tools-dropped": requests.ToolsDropped,
    "system-dropped": requests.SystemDropped,
    "system-added": requests.SystemAdded,
    "messages-flattened": requests.Flattened,
    "parts-as-text": requests.PartsAsText,
    "messages-truncated": requests.LastKept,
    "prompt-cut": requests.BeginningCut,
    "template-options-dropped": requests.TemplateOptionsDropped,
    # What is asked: the parameters.
    "stop-dropped": requests.StopDropped,
    "seed-dropped": requests.SeedDropped,
    "bias-dropped": requests.BiasDropped,
    "sampling-dropped": requests.SamplingDropped,
    "temperature-zero-unset": requests.ZeroUnset,
    "penalty-added": requests.PenaltyAdded,
    "limit-dropped": requests.LimitDropped,
    "limit-capped": requests.LimitCapped,
    "tool-choice-dropped": requests.ToolChoiceDropped,
    # Who answers.
    "share-elsewhere": requests.ShareElsewhere,
    "kept-by-last-message": requests.KeptByLastMessage,
    # What is answered: the text.
    "utf8-broken": answers.Utf8Broken,
    "last-piece-lost": answers.LastPieceLost,
    "blank-pieces-dropped": answers.BlankPiecesDropped,
    "html-escaped": answers.HtmlEscaped,
    "stripped": answers.Stripped,
    # What is answered: its parts.
    "finish-lost": answers.FinishLost,
    "calls-finish-as-stop": answers.CallsFinishAsStop,
    "call-index-zero": answers.CallIndexZero,
    "reasoning-stripped": answers.ReasoningStripped,
    "arguments-twice-encoded": answers.ArgumentsTwiceEncoded,
    "arguments-sorted": answers.ArgumentsSorted,
    "arguments-escaped": answers.ArgumentsEscaped,
    # What is answered: its numbers.
    "usage-wrong": answers.UsageWrong,
    "logprobs-dropped": answers.LogprobsDropped,
    "logprobs-shifted": answers.LogprobsShifted,
    "logprobs-zero": answers.LogprobsZero,
    # Controls, which harm nothing.
    "none": ProxyMutation,
    "renamed": answers.Renamed,
    "regrouped": answers.Regrouped,
    "pretty": answers.Pretty,
}
