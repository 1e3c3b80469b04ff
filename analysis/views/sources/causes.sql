-- One row is a part of an answer and a stage that can spoil it.
--
-- What part of an answer each stage can spoil. Another prompt shows itself as such, by its ids or their number.
--
-- behind: only where this is hidden can the stage have made it: other tokens come from the prompt only where
-- the prompt's ids are hidden (`prompt`), and where the answer's are (`ids`), its end, its text and its message
-- cannot be separated, because only the last of them is seen, unless its text is all that the reference's tokens
-- spell (`spelling`).
--
-- Of an answer whose ids are hidden: `answer` has other words than the reference, `text` is a piece of the
-- reference's or has it as one, and `form` has the same words in another form, or other calls, which either may make.
SELECT * FROM (
    VALUES
        ('prompt', 'config', NULL), ('prompt', 'template', NULL), ('prompt', 'tokenize', NULL),
        ('prompt_tokens', 'config', NULL), ('prompt_tokens', 'template', NULL), ('prompt_tokens', 'tokenize', NULL),
        ('output_ids', 'template', 'prompt'), ('output_ids', 'tokenize', 'prompt'),
        ('output_ids', 'config', NULL), ('output_ids', 'weights', NULL),
        ('output_ids', 'logits', NULL), ('output_ids', 'state', NULL),
        ('output_ids', 'sampling', NULL), ('output_ids', 'stop', NULL),
        ('output_ids', 'instrument', NULL),
        ('answer', 'template', 'prompt'), ('answer', 'tokenize', 'prompt'),
        ('answer', 'config', NULL), ('answer', 'weights', NULL), ('answer', 'logits', NULL),
        ('answer', 'state', NULL), ('answer', 'sampling', NULL), ('answer', 'instrument', NULL),
        ('form', 'template', 'prompt'), ('form', 'tokenize', 'prompt'),
        ('form', 'config', NULL), ('form', 'weights', NULL), ('form', 'logits', NULL),
        ('form', 'state', NULL), ('form', 'sampling', NULL), ('form', 'instrument', NULL),
        ('form', 'stop', NULL), ('form', 'detokenize', NULL), ('form', 'parse', NULL),
        ('text', 'stop', NULL), ('text', 'detokenize', NULL), ('text', 'parse', 'ids'),
        ('stream', 'stop', 'ids'), ('stream', 'detokenize', NULL), ('stream', 'parse', 'ids'),
        ('finish_reason', 'stop', NULL), ('finish_reason', 'detokenize', 'spelling'), ('finish_reason', 'parse', NULL),
        ('output_tokens', 'stop', NULL), ('output_tokens', 'detokenize', NULL), ('output_tokens', 'parse', NULL),
        ('message', 'stop', 'spelling'), ('message', 'detokenize', 'spelling'), ('message', 'parse', NULL)
) AS can (symptom, stage, behind)
