"""A user's five prompts in one short file: each is asked in four stages."""

from pathlib import Path

import pytest

from suites.derive import derive_suite
from suites.errors import UserError
from suites.model_files import ModelFiles
from tests.suites.derive.conftest import TINY_CHAT

PROMPTS = """\
prompts:
  - id: refund
    system: You work for a shop.
    user: I want my money back.
  - user: "Where is parcel 7?"
    tools: &shop
      - type: function
        function:
          name: parcel_find
          description: Find a parcel
          parameters: {type: object, properties: {number: {type: integer}}, required: [number]}
    max_tokens: 48
  - id: found
    messages:
      - {role: user, content: "Where is parcel 7?"}
      - role: assistant
        content: ""
        tool_calls:
          - {id: call12345, type: function, function: {name: parcel_find, arguments: {number: 7}}}
      - {role: tool, tool_call_id: call12345, content: "Lima"}
    tools: *shop
  - {id: thinking, user: "How much is it?", template_options: {enable_thinking: true}}
  - {id: thanks, user: Thank you!}
"""


def _file(folder: Path, text: str) -> Path:
    path = folder / "prompts.yaml"
    path.write_text(text)
    return path


def test_each_prompt_is_asked_in_four_stages(tmp_path: Path) -> None:
    suite = derive_suite(TINY_CHAT, name="shop", prompts=_file(tmp_path, PROMPTS))
    own = {case.id: case for case in suite.cases if "own" in case.tags}
    assert set(own) == {
        f"{stage}/own-{name}"
        for stage in ("template", "tokenize", "logits", "chain")
        for name in ("refund", "2", "found", "thinking", "thanks")
    }
    truth = ModelFiles(TINY_CHAT)
    case = own["tokenize/own-2"]
    assert "parcel_find" in str(case.golden.prompt_text)
    assert case.golden.prompt_ids == tuple(
        truth.encode(str(case.golden.prompt_text), add_special=False)
    )
    assert own["template/own-thinking"].golden.prompt_text == truth.render(
        [{"role": "user", "content": "How much is it?"}], options={"enable_thinking": True}
    )
    assert own["chain/own-2"].max_tokens == 48


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("prompts:\n  - usr: Hi\n", ":2: prompts[0].usr", "did you mean 'user'?"),
        ("prompts:\n  - {user: a}\n  - {}\n", ":3: prompts[1]", "needs either `user:`"),
        ("prompts: []\n", ":1: prompts", "prompts is empty"),
        (
            "prompts:\n  - {system: a, messages: [{role: user, content: b}]}\n",
            ":2: prompts[0]",
            "write the system message into `messages:`",
        ),
        (
            "prompts:\n  - {id: a, user: b}\n  - {id: a, user: c}\n",
            ":3: prompts[1].id",
            "two prompts",
        ),
        (
            "prompts:\n  - {messages: [{role: user}]}\n",
            ":2: prompts[0]",
            "refuses the conversation",
        ),
        ("prompts:\n  - {user: a, max_tokens: 512}\n", ":2: prompts[0]", "longer than the context"),
    ],
)
def test_a_mistake_is_refused_with_its_place(
    tmp_path: Path, text: str, where: str, message: str
) -> None:
    with pytest.raises(UserError) as raised:
        derive_suite(TINY_CHAT, name="shop", context_length=400, prompts=_file(tmp_path, text))
    assert raised.value.where.endswith(f"prompts.yaml{where}")
    assert message in str(raised.value)
