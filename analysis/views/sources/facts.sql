-- One row is a fact of the `config` stage.
--
-- Facts of the `config` stage: whether a difference changes meaning, and which stage would show it.
-- A fact that is not listed here is taken to have meaning.
--
-- Facts of kind `bytes` alarm nothing alone. The name of a pre-tokenizer is one of them: llama.cpp has
-- several names for one rule, so only a tokenize stage that differs shows that the name was wrong; the
-- same goes for a normaliser that no case needed.
--
-- null_is_none: where the model says nothing there is none of it, and an engine that states one differs;
-- of other facts, a model that says nothing leaves the engine free.
--
-- rounded_up_to: engines keep at least what was asked, in whole blocks. llama.cpp pads its context to
-- 256 and then lets requests use all of it.
SELECT * FROM (
    VALUES
        ('architecture', 'meaning', 'logits', NULL, false),
        ('vocab_size', 'meaning', 'tokenize', NULL, false),
        ('bos_id', 'meaning', 'tokenize', NULL, false),
        ('add_bos', 'meaning', 'tokenize', NULL, false),
        ('eos_ids', 'meaning', 'stop', NULL, false),
        ('rope_theta', 'meaning', 'logits', NULL, false),
        ('rms_eps', 'meaning', 'logits', NULL, false),
        ('sliding_window', 'meaning', 'logits', NULL, true),
        ('layers', 'meaning', 'logits', NULL, false),
        ('heads', 'meaning', 'logits', NULL, false),
        ('kv_heads', 'meaning', 'logits', NULL, false),
        ('compute_dtype', 'meaning', 'logits', NULL, false),
        ('kv_dtype', 'meaning', 'logits', NULL, false),
        ('context_length', 'meaning', 'stop', 256, false),
        ('sampling_defaults', 'meaning', 'sampling', NULL, false),
        ('template_digest', 'bytes', 'template', NULL, false),
        ('tokenizer_digest', 'bytes', 'tokenize', NULL, false),
        ('pre_tokenizer', 'bytes', 'tokenize', NULL, false),
        ('normalizer', 'bytes', 'tokenize', NULL, false),
        ('model_name', 'bytes', NULL, NULL, false)
) AS known (fact, kind, explains, rounded_up_to, null_is_none)
