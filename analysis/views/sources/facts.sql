-- One row is a fact of the `config` stage.
--
-- Facts of the `config` stage: whether a difference changes meaning, and which stage would show it.
-- A fact that is not listed here is taken to have meaning.
--
-- Facts of kind `bytes` alarm nothing alone. The name of a pre-tokenizer is one of them: llama.cpp has
-- several names for one rule, so only a tokenize stage that differs shows that the name was wrong; the
-- same goes for a normaliser that no case needed.
--
-- `not_compared` is no fact but the keys of the configuration that nothing here understands: they are named.
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
        ('rope_theta_windowed', 'meaning', 'logits', NULL, true),
        ('rope_scaling', 'meaning', 'logits', NULL, false),
        ('rope_dims', 'meaning', 'logits', NULL, false),
        ('rms_eps', 'meaning', 'logits', NULL, false),
        ('layer_norm_eps', 'meaning', 'logits', NULL, false),
        ('sliding_window', 'meaning', 'logits', NULL, true),
        ('windowed_layers', 'meaning', 'logits', NULL, false),
        ('layers', 'meaning', 'logits', NULL, false),
        ('hidden_size', 'meaning', 'logits', NULL, false),
        ('feed_forward_size', 'meaning', 'logits', NULL, false),
        ('heads', 'meaning', 'logits', NULL, false),
        ('kv_heads', 'meaning', 'logits', NULL, false),
        ('head_dim', 'meaning', 'logits', NULL, false),
        ('attention_scale', 'meaning', 'logits', NULL, false),
        ('attention_softcap', 'meaning', 'logits', NULL, true),
        ('final_softcap', 'meaning', 'logits', NULL, true),
        ('activation', 'meaning', 'logits', NULL, false),
        ('tied_head', 'meaning', 'logits', NULL, false),
        ('parallel_residual', 'meaning', 'logits', NULL, false),
        ('experts', 'meaning', 'logits', NULL, true),
        ('experts_used', 'meaning', 'logits', NULL, true),
        ('expert_feed_forward_size', 'meaning', 'logits', NULL, false),
        ('shared_expert_size', 'meaning', 'logits', NULL, true),
        ('expert_weights_normalised', 'meaning', 'logits', NULL, false),
        ('dense_layers', 'meaning', 'logits', NULL, false),
        ('compute_dtype', 'meaning', 'logits', NULL, false),
        ('kv_dtype', 'meaning', 'logits', NULL, false),
        ('context_length', 'meaning', 'stop', 256, false),
        ('sampling_defaults', 'meaning', 'sampling', NULL, false),
        ('template_digest', 'bytes', 'template', NULL, false),
        ('tokenizer_digest', 'bytes', 'tokenize', NULL, false),
        ('tokens_digest', 'meaning', 'tokenize', NULL, false),
        ('merges_digest', 'meaning', 'tokenize', NULL, false),
        ('scores_digest', 'meaning', 'tokenize', NULL, false),
        ('token_flags_digest', 'meaning', 'tokenize', NULL, false),
        ('pre_tokenizer', 'bytes', 'tokenize', NULL, false),
        ('normalizer', 'bytes', 'tokenize', NULL, false),
        ('model_name', 'bytes', NULL, NULL, false),
        ('not_compared', 'bytes', NULL, NULL, false)
) AS known (fact, kind, explains, rounded_up_to, null_is_none)
