-- What part of an answer each stage can spoil. Another prompt shows itself as such; only where the engine
-- hides its prompt may other tokens come from there.
SELECT * FROM (
    VALUES
        ('prompt', 'config', false), ('prompt', 'template', false), ('prompt', 'tokenize', false),
        ('output_ids', 'template', true), ('output_ids', 'tokenize', true),
        ('output_ids', 'config', false), ('output_ids', 'weights', false),
        ('output_ids', 'logits', false), ('output_ids', 'state', false),
        ('output_ids', 'sampling', false), ('output_ids', 'stop', false),
        ('output_ids', 'instrument', false),
        ('text', 'stop', false), ('text', 'detokenize', false), ('stream', 'detokenize', false),
        ('finish_reason', 'stop', false), ('finish_reason', 'parse', false),
        ('message', 'parse', false)
) AS can (symptom, stage, only_where_prompt_hidden)
