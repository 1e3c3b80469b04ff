-- Facts of the `config` stage: whether a difference changes meaning, and which stage would show it.
-- A fact that is not listed here is taken to have meaning.
--
-- Facts of kind `bytes` alarm nothing alone. The name of a pre-tokenizer is one of them: llama.cpp has
-- several names for one rule, so only a tokenize stage that differs shows that the name was wrong; the
-- same goes for a normaliser that no case needed.
--
-- rounded_up_to: engines keep at least what was asked, in whole blocks. llama.cpp pads its context to
-- 256 and then lets requests use all of it.
SELECT * FROM (
    VALUES
        ('architecture', 'meaning', 'logits', NULL),
        ('vocab_size', 'meaning', 'tokenize', NULL),
        ('bos_id', 'meaning', 'tokenize', NULL),
        ('add_bos', 'meaning', 'tokenize', NULL),
        ('eos_ids', 'meaning', 'stop', NULL),
        ('rope_theta', 'meaning', 'logits', NULL),
        ('rms_eps', 'meaning', 'logits', NULL),
        ('sliding_window', 'meaning', 'logits', NULL),
        ('layers', 'meaning', 'logits', NULL),
        ('heads', 'meaning', 'logits', NULL),
        ('kv_heads', 'meaning', 'logits', NULL),
        ('compute_dtype', 'meaning', 'logits', NULL),
        ('kv_dtype', 'meaning', 'logits', NULL),
        ('context_length', 'meaning', 'stop', 256),
        ('sampling_defaults', 'meaning', 'sampling', NULL),
        ('template_digest', 'bytes', 'template', NULL),
        ('tokenizer_digest', 'bytes', 'tokenize', NULL),
        ('pre_tokenizer', 'bytes', 'tokenize', NULL),
        ('normalizer', 'bytes', 'tokenize', NULL),
        ('model_name', 'bytes', NULL, NULL)
) AS known (fact, kind, explains, rounded_up_to)
