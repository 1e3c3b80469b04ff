-- One row is a probe that every case of a stage must bring.
--
-- The probes that every case of a stage must bring; one that is not there is missing evidence. What else
-- a case of `state` or `sampling` must bring follows from what it asks (`staging.planned_probes`).
SELECT * FROM (
    VALUES
        ('template', 'isolate'),
        ('tokenize', 'isolate'),
        ('logits', 'prefill'),
        ('logits', 'decode'),
        ('state', 'alone'),
        ('stop', 'isolate'),
        ('detokenize', 'whole'),
        ('detokenize', 'stream'),
        ('parse', 'isolate'),
        ('parse', 'stream'),
        ('chain', 'whole'),
        ('chain', 'stream')
) AS planned (stage, probe)
