"""The tokens at which llama.cpp ends an answer: the model's own, and others that it knows by name.

The names are those of llama.cpp's vocabulary loader. Where several tokens compete for one role, it
takes the one that its hash table lists first, so each of them is possible.
"""

from collections.abc import Iterator
from itertools import product

from cluster.matrix.expected_rules.model_texts import ModelTexts

#: Names of tokens that end a turn, a message or a text.
_ENDS = (
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
    "[e~[",
)
#: Roles of code infilling that end an answer too, each with the names of its token.
_INFILLING = (
    ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    ("<|file_sep|>",),
)
#: With one of these sets in the vocabulary, `<|end|>` ends no answer.
_NO_END = (
    frozenset({"<|return|>", "<|call|>"}),
    frozenset({"<|return|>", "<|calls|>"}),
    frozenset({"<|call|>", "<|flush|>"}),
    frozenset({"<|calls|>", "<|flush|>"}),
)


def named_ends(texts: ModelTexts) -> Iterator[frozenset[int]]:
    """Yield each set of ids at which llama.cpp may end an answer of this model."""
    there = texts.vocabulary
    names = {name for name in _ENDS if name in there}
    infilling = [[{n} for n in role if n in there] or [set[str]()] for role in _INFILLING]
    for chosen in product(*infilling):
        found = names.union(*chosen)
        if any(known <= found for known in _NO_END):
            found -= {"<|end|>"}
        if "<|tool_response>" in found:
            found -= {"</s>"}
        yield texts.eos_ids | {there[name] for name in found}
