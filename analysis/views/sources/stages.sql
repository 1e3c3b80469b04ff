-- One row is a stage of the chain.
--
-- The chain in order, and what each part does, in one sentence for people.
SELECT * FROM (
    VALUES
        (
            0,
            'instrument',
            'none',
            'is the measurement itself: the same numbers when asked twice, in another order and without a cache'
        ),
        (
            1,
            'config',
            'none',
            'holds what the engine believes about the model: special tokens, rope, eps, window, dtypes, lengths'
        ),
        (2, 'weights', 'none', 'holds the tensors of the artifact, compared one by one with the model''s own'),
        (3, 'template', 'cases', 'turns messages and tools into the prompt text'),
        (4, 'tokenize', 'cases', 'turns the prompt text into token ids, special tokens included'),
        (5, 'logits', 'cases', 'computes the distribution of the next token from given ids'),
        (6, 'state', 'cases', 'keeps sequences apart: batches, caches, slots, concurrent requests'),
        (7, 'sampling', 'cases', 'picks a token from the distribution as the request asks'),
        (8, 'stop', 'cases', 'ends the generation at EOS, stop strings or the token limit, and says why'),
        (9, 'detokenize', 'cases', 'turns token ids back into text, whole and streamed'),
        (10, 'parse', 'cases', 'splits the text into content, reasoning and tool calls'),
        (11, 'chain', 'cases', 'is everything at once, as the user sees it: messages in, message out')
) AS chain (ordinal, stage, takes, does)
