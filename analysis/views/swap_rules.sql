-- What confirms a culprit: a swap with an effect, beside a placebo (another stage's swap) that does not
-- make the same. Several rows of a culprit are alternatives.
--
-- cures: the answer becomes the truth's. infects: the reference shows the symptom. persists: the truth's
-- tokens, forced, still give a wrong answer, so that what comes after sampling is at fault.
SELECT * FROM (
    VALUES
        ('template', 'cure/template', 'cures', 'cure/sampling'),
        ('template', 'infect/template', 'infects', 'infect/logits'),
        ('tokenize', 'cure/tokenize', 'cures', 'cure/template'),
        ('tokenize', 'infect/tokenize', 'infects', 'infect/template'),
        ('config', 'infect/config', 'infects', 'infect/template'),
        ('weights', 'infect/weights', 'infects', 'infect/tokenize'),
        ('logits', 'infect/logits', 'infects', 'infect/tokenize'),
        ('sampling', 'cure/sampling', 'cures', 'infect/logits'),
        ('sampling', 'infect/sampling', 'infects', 'infect/logits'),
        ('stop', 'cure/logits', 'persists', 'infect/sampling'),
        ('stop', 'cure/logits', 'persists', 'infect/logits'),
        ('detokenize', 'cure/logits', 'persists', 'infect/sampling'),
        ('detokenize', 'cure/logits', 'persists', 'infect/logits'),
        ('parse', 'cure/logits', 'persists', 'infect/sampling'),
        ('parse', 'cure/logits', 'persists', 'infect/logits')
) AS confirming (part, swap, effect, placebo)
