"""Sequences are decoded together where that costs less than it pads."""

from runner.engines.probes.batches import batches


def lengths_of(sequences: list[tuple[int, int]]) -> list[list[int]]:
    return [[length for length, _ in batch] for batch in batches(sequences, lambda s: s)]


def test_short_prompts_are_not_padded_to_a_long_one() -> None:
    assert lengths_of([(640, 16), (30, 16), (45, 16), (320, 16)]) == [[30, 45], [320], [640]]


def test_some_padding_costs_less_than_the_steps_of_another_batch() -> None:
    assert lengths_of([(100, 64), (30, 64), (45, 64), (320, 64)]) == [[30, 45, 100, 320]]


def test_a_batch_has_at_most_16_sequences_and_a_bounded_size() -> None:
    assert [len(batch) for batch in lengths_of([(9, 8)] * 40)] == [16, 16, 8]
    assert lengths_of([(8000, 500)] * 3) == [[8000], [8000], [8000]]


def test_every_sequence_is_in_one_batch() -> None:
    asked = [(7 * n % 101 + 1, 8 + n % 3) for n in range(100)]
    assert sorted(s for batch in batches(asked, lambda s: s) for s in batch) == sorted(asked)
