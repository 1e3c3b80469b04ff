-- Facts of the `config` stage: whether a difference changes meaning, and which stage would show it.
-- A fact that is not listed here is taken to have meaning.
SELECT * FROM (
    VALUES
        ('architecture', 'meaning', 'logits'),
        ('vocab_size', 'meaning', 'tokenize'),
        ('bos_id', 'meaning', 'tokenize'),
        ('add_bos', 'meaning', 'tokenize'),
        ('eos_ids', 'meaning', 'stop'),
        ('rope_theta', 'meaning', 'logits'),
        ('rms_eps', 'meaning', 'logits'),
        ('sliding_window', 'meaning', 'logits'),
        ('layers', 'meaning', 'logits'),
        ('heads', 'meaning', 'logits'),
        ('kv_heads', 'meaning', 'logits'),
        ('compute_dtype', 'meaning', 'logits'),
        ('kv_dtype', 'meaning', 'logits'),
        ('context_length', 'meaning', 'stop'),
        ('sampling_defaults', 'meaning', 'sampling'),
        ('template_digest', 'bytes', 'template'),
        ('tokenizer_digest', 'bytes', 'tokenize'),
        ('model_name', 'bytes', NULL)
) AS known (fact, kind, explains)
