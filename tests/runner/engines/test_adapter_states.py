"""What surrounds a request changes nothing: both engines, in each state they can be put into."""

from tests.runner.asking import ENGINES, ask

#: Six conversations, held once for each engine: prompts of different lengths, answers of 2 to 20
#: ids, each answered alone.
_CONVERSATIONS = """
QUESTIONS = ["Count from 3 to 9.", "What is 3 + 4?", "Hello!", "Repeat: “ok” “river”",
             "Is 48 greater than 17?", "Count by 4 from 12, 7 numbers."]
REPLIES = [adapter.chat(Request([{"role": "user", "content": q}])) for q in QUESTIONS]
PAIRS = [(r.prompt_ids, r.output_ids) for r in REPLIES]
IDS = [[*p, *o] for p, o in PAIRS]
ALONE = [adapter.distribution.prefill(ids, cold=True) for ids in IDS]
def logprobs(z):
    z = z.astype(np.float64)
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))
def kl(truth, seen):
    assert truth.shape == seen.shape, (truth.shape, seen.shape)
    p, q = logprobs(truth), logprobs(seen)
    return float((np.exp(p) * (p - q)).sum(1).max())
"""
#: KL in nats at any position, at float32: a hundred times what was measured.
_EQUAL = 1e-9


@ENGINES
def test_rows_of_a_batch_are_what_they_are_alone(engine: str) -> None:
    worst, short = ask(
        engine,
        "worst = [kl(a[:-1], b) for n in (1, 2, 6)\n"
        "         for a, b in zip(ALONE, adapter.scenarios.batched(PAIRS[:n]))]\n"
        "half = adapter.scenarios.batched([(PAIRS[0][0], []), PAIRS[1]])[0]\n"
        "answer = [max(worst), kl(ALONE[0][:len(PAIRS[0][0]) - 1], half)]\n",
        prepared=_CONVERSATIONS,
    )
    assert worst < _EQUAL
    assert short < _EQUAL


@ENGINES
def test_chunks_of_a_prompt_add_up_to_the_prompt(engine: str) -> None:
    worst = ask(
        engine,
        "answer = max(kl(ALONE[0], adapter.scenarios.chunked.prefill(IDS[0], n))"
        " for n in (1, 7, len(IDS[0]), 900))",
        prepared=_CONVERSATIONS,
    )
    assert worst < _EQUAL


@ENGINES
def test_a_warm_prefix_is_reused_and_only_new_rows_come_back(engine: str) -> None:
    """Four prompts share more and more with the last; the cache of the one before it counts."""
    cached, worst, longer, rest, other = ask(
        engine,
        "ids = IDS[0]\n"
        "cached, rows = adapter.scenarios.prefix([IDS[1], [*ids[:9], 5, 6, 7]], ids)\n"
        "longer, last = adapter.scenarios.prefix([ids], ids[:20])\n"
        "nothing, cold = adapter.scenarios.prefix([], ids)\n"
        "answer = [cached, kl(ALONE[0][cached:], rows), longer, kl(ALONE[0][longer:20], last),\n"
        "          [nothing, kl(ALONE[0], cold)]]\n",
        prepared=_CONVERSATIONS,
    )
    assert cached == 9
    assert longer == 19
    assert other[0] == 0
    assert max(worst, rest, other[1]) < _EQUAL


@ENGINES
def test_a_slot_forgets_who_was_in_it_before(engine: str) -> None:
    """The earlier request is once longer and once shorter than the one that follows it."""
    worst = ask(
        engine,
        "answer = max(kl(ALONE[i], adapter.scenarios.reused(IDS[j], IDS[i]))"
        " for i, j in ((2, 0), (0, 2), (1, 1)))",
        prepared=_CONVERSATIONS,
    )
    assert worst < _EQUAL


@ENGINES
def test_requests_served_together_get_their_own_answers_in_any_number_of_slots(engine: str) -> None:
    found = ask(
        engine,
        "prompts = [p for p, _ in PAIRS]\n"
        "serve = adapter.scenarios.concurrent\n"
        "answer = [[serve(prompts, n, 64) == [o for _, o in PAIRS] for n in (1, 2, 6)],\n"
        "          [len(o) for o in serve(prompts, 4, 3)]]\n",
        prepared=_CONVERSATIONS,
    )
    assert found == [[True, True, True], [3, 2, 3, 3, 3, 3]]


@ENGINES
def test_a_secret_stays_in_its_own_conversation(engine: str) -> None:
    """Each conversation asks to repeat another word; none may show up in another's answer."""
    words = ["river", "stone", "horse", "lamp", "bird"]
    texts = ask(
        engine,
        f"words = {words}\n"
        "said = [[{'role': 'user', 'content': f'Repeat: “ok” “{w}”'}] for w in words]\n"
        "prompts = [adapter.chat(Request(s)).prompt_ids for s in said]\n"
        "serve, text_of = adapter.scenarios.concurrent, adapter.vocabulary.text_of\n"
        "answer = [text_of(o) for n in (2, 5) for o in serve(prompts, n, 12)]\n",
    )
    for text, own in zip(texts, words * 2, strict=True):
        assert [word for word in words if word in text] == [own]


def test_llama_cpp_s_slots_are_right_where_they_do_not_fit_into_one_buffer() -> None:
    """A context of 256 tokens holds one of these sequences, not six: each gets its own then."""
    worst, served = ask(
        "llama_cpp",
        "adapter = make(n_ctx=256)\n" + "grown = [p + o * 8 for p, o in PAIRS]\n"
        "alone = [adapter.distribution.prefill(ids, cold=True) for ids in grown]\n"
        "seen = adapter.scenarios.batched([(ids, [1]) for ids in grown])\n"
        "answer = [max(map(kl, alone, seen)),\n"
        "          adapter.scenarios.concurrent([p for p, _ in PAIRS], 6, 64)\n"
        "          == [o for _, o in PAIRS]]\n",
        prepared=_CONVERSATIONS,
    )
    assert worst < _EQUAL
    assert served


def test_transformers_options_reach_its_states() -> None:
    worst = ask(
        "transformers",
        "adapter = make(padding=5)\n"
        "answer = [kl(ALONE[0][:-1], adapter.scenarios.batched(PAIRS)[0]),\n"
        "          kl(ALONE[0], adapter.scenarios.chunked.prefill(IDS[0], 7)),\n"
        "          kl(ALONE[0][9:], adapter.scenarios.prefix([[*IDS[0][:9], 5]], IDS[0])[1])]\n",
        prepared=_CONVERSATIONS,
    )
    assert max(worst) < _EQUAL
