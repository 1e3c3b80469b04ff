-- The probes that every case of a stage must bring; one that is not there is missing evidence.
SELECT * FROM (
    VALUES
        ('template', 'isolate'),
        ('tokenize', 'isolate'),
        ('logits', 'prefill'),
        ('logits', 'decode'),
        ('stop', 'isolate'),
        ('detokenize', 'whole'),
        ('detokenize', 'stream'),
        ('parse', 'isolate'),
        ('chain', 'whole'),
        ('chain', 'stream')
) AS planned (stage, probe)
