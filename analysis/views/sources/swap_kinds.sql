-- One row is a kind of swap.
--
-- What may be exchanged in the chain, in words. `cure/…`: the truth's output in the candidate's chain;
-- `infect/…`: the candidate's output in the reference's.
SELECT swap, split_part(swap, '/', 1) AS direction, split_part(swap, '/', 2) AS part, words
FROM (
    VALUES
        ('cure/template', 'with the truth''s prompt text'),
        ('cure/tokenize', 'with the truth''s prompt ids'),
        ('cure/logits', 'with the truth''s tokens forced'),
        ('cure/sampling', 'with the plain argmax of its own logits'),
        ('infect/template', 'the reference with this prompt text'),
        ('infect/tokenize', 'the reference with these prompt ids'),
        ('infect/logits', 'the reference taking the argmax of these logits'),
        ('infect/sampling', 'the reference forced to give these tokens'),
        ('infect/weights', 'the reference over these tensors'),
        ('infect/config', 'the reference with these facts')
) AS kinds (swap, words)
