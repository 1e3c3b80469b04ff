-- One row is a part of the chain and a swap that can confirm that it is at fault.
--
-- What confirms a culprit, by the symptom of the case: a swap with an effect, beside controls (other swaps)
-- that do not make the same. Several rows of a culprit and a symptom are alternatives.
--
-- cures: the answer becomes the truth's. infects: the reference shows the symptom. persists: the truth's
-- tokens, forced, still give a wrong answer, so that what comes after sampling is at fault.
--
-- A control must be able to fail, else it proves nothing. So each stands only beside symptoms where it may
-- go either way; a swap that changes nothing there, or whose answer is settled by the effect itself, is none:
--   prompt: only cure/template and cure/tokenize can heal a prompt, and cure/tokenize overrides the template
--     too; infect/tokenize gives the prompt itself. Neither speaks against a template. A template heals also
--     a prompt that a wrong tokenizer never spoilt, so for tokenize it is a real control.
--   output_ids, the prompt being right: cure/template, cure/tokenize, infect/template and infect/tokenize
--     change nothing: they ask again. On the candidate's side that is a control for sampling: what asking again
--     cures was not steady. cure/sampling and infect/logits force the same tokens on two engines, so each
--     follows from the other. Other tensors and other facts are rivals of the logits and of each other.
--   output_ids behind a hidden prompt ('hidden'): the candidate's logits cannot be asked for its own prompt,
--     nor its prompt ids be put in, so neither cure/sampling, infect/logits nor infect/tokenize is there.
--   text, finish_reason, message: the tokens are the truth's already, so forcing them always gives the
--     symptom, and the reference made to give them never does. No swap is there to contrast with, nor one that
--     tells stop, detokenize and parse apart: `is_sole` counts a case only for the one divergent stage that
--     could have made its symptom.
--
-- needed: all controls must have answered. Else those that were run count (other tensors and facts are put in
-- only where they differ), and where none was, `alone` says why the effect stands alone.
SELECT * FROM (
    VALUES
        ('template', 'prompt', 'cure/template', 'cures', [], false, false, 'no other swap can correct the prompt text'),
        (
            'template',
            'prompt',
            'infect/template',
            'infects',
            ['infect/config'],
            false,
            false,
            'the facts agree, and no other swap can change a prompt'
        ),
        ('tokenize', 'prompt', 'cure/tokenize', 'cures', ['cure/template'], true, false, NULL),
        ('tokenize', 'prompt', 'infect/tokenize', 'infects', ['infect/template'], true, false, NULL),
        ('config', 'prompt', 'infect/config', 'infects', ['infect/template'], true, false, NULL),

        ('config', 'output_ids', 'infect/config', 'infects', ['infect/weights'], false, false, 'the tensors agree'),
        ('weights', 'output_ids', 'infect/weights', 'infects', ['infect/config'], false, false, 'the facts agree'),
        (
            'logits',
            'output_ids',
            'infect/logits',
            'infects',
            ['infect/weights', 'infect/config'],
            false,
            false,
            'tensors and facts agree'
        ),
        ('sampling', 'output_ids', 'cure/sampling', 'cures', ['cure/tokenize'], true, false, NULL),
        ('sampling', 'output_ids', 'infect/sampling', 'infects', ['infect/logits', 'cure/tokenize'], true, false, NULL),
        ('stop', 'output_ids', 'cure/logits', 'persists', ['infect/sampling'], true, false, NULL),
        ('stop', 'output_ids', 'cure/logits', 'persists', ['infect/logits'], true, false, NULL),

        (
            'template',
            'hidden',
            'cure/template',
            'cures',
            [],
            false,
            false,
            'the prompt is hidden, and no other swap separates the stages'
        ),
        (
            'template',
            'hidden',
            'infect/template',
            'infects',
            ['infect/weights', 'infect/config'],
            false,
            false,
            'tensors and facts agree'
        ),
        ('tokenize', 'hidden', 'cure/tokenize', 'cures', ['cure/template'], true, false, NULL),
        (
            'config',
            'hidden',
            'infect/config',
            'infects',
            ['infect/template', 'infect/weights'],
            false,
            false,
            'the tensors agree, and the prompt is hidden'
        ),
        (
            'weights',
            'hidden',
            'infect/weights',
            'infects',
            ['infect/template', 'infect/config'],
            false,
            false,
            'the facts agree, and the prompt is hidden'
        ),
        ('stop', 'hidden', 'cure/logits', 'persists', ['infect/sampling'], true, false, NULL),

        (
            'stop',
            'text',
            'cure/logits',
            'persists',
            [],
            false,
            true,
            'it is the only divergent stage that can cause this'
        ),
        (
            'stop',
            'finish_reason',
            'cure/logits',
            'persists',
            [],
            false,
            true,
            'it is the only divergent stage that can cause this'
        ),
        (
            'detokenize',
            'text',
            'cure/logits',
            'persists',
            [],
            false,
            true,
            'it is the only divergent stage that can cause this'
        ),
        (
            'parse',
            'finish_reason',
            'cure/logits',
            'persists',
            [],
            false,
            true,
            'it is the only divergent stage that can cause this'
        ),
        (
            'parse',
            'message',
            'cure/logits',
            'persists',
            [],
            false,
            true,
            'it is the only divergent stage that can cause this'
        )
) AS confirming (part, symptom, swap, effect, controls, needed, is_sole, alone)
