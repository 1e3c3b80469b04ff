-- What a verdict and a cell say in full: one macro for each sentence.

CREATE MACRO wording.and_more(n, shown) AS CASE WHEN n > shown THEN format('; and {} more', n - shown) ELSE '' END;

CREATE MACRO wording.noted(notes) AS coalesce(' (noted, no alarm: ' || notes || ')', '');

CREATE MACRO wording.differ_from_truth(divergent, n, truth, first_case, detail) AS
    format('{} of {} differ from the {}; {}', divergent, n, truth, first_case) || coalesce(': ' || detail, '');

CREATE MACRO wording.mean_kl(probe, mean_kl, ci_low, ci_high, margin, flips, n) AS
    coalesce(
        format(
            '{}: mean KL {:.2g} nats [{:.2g}, {:.2g}], margin {}, {} of {} most probable tokens differ',
            probe, mean_kl, ci_low, ci_high, coalesce(format('{:.2g}', margin), 'none'), flips, n
        ), ''
    );

CREATE MACRO wording.where_not_finite(nonfinite, n, first_case) AS
    format('; NaN or infinite at {} of {} positions, first in {}', nonfinite, n, first_case);

CREATE MACRO wording.worst(worst_case, position, profile) AS
    format('; worst in {} at position {}', worst_case, position) || coalesce('; ' || profile, '');

CREATE MACRO wording.within_declared_bound(bound, reason, judged_apart) AS
    format('; within the declared bound {:.2g}: {}', bound, reason)
    || coalesce(format(' ({} cases are judged apart)', judged_apart), '');

CREATE MACRO wording.first_answer(first_case, detail, failed, first_gap) AS
    format('{}: {}', first_case, coalesce(detail, 'the answer differs'))
    || CASE WHEN failed > 0 THEN format(' ({} failed; first: {})', failed, first_gap) ELSE '' END;

-- Keys of a configuration that nothing here understands.
CREATE MACRO wording.not_understood(keys) AS
    CASE len(keys) WHEN 1 THEN '1 key of this architecture is' ELSE len(keys) || ' keys of this architecture are' END
    || ' not compared: ' || array_to_string(keys, ', ');

-- Tokens by id: {"0": "<|endoftext|>"} is `0 <|endoftext|>`.
CREATE MACRO wording.tokens(ids) AS array_to_string(
    list_transform(
        map_entries(TRY_CAST(ids AS json)::MAP(varchar, varchar)),
        lambda e: e.key || coalesce(' ' || e.value, '')
    ), ', '
);

-- The cell as a whole.
CREATE MACRO wording.no_attempt(failure) AS 'nothing to judge: ' || failure;

CREATE MACRO wording.hidden_culprit(culprit, says, cases) AS
    culprit || ': ' || says
    || CASE WHEN cases > 1 THEN format(' (and {} more cases)', cases - 1) ELSE '' END
    || CASE
        WHEN contains(culprit, '/') THEN '; the server hides these stages, so the culprit is one of them'
        ELSE '; the server hides this stage, and every other stage that could cause it agrees'
    END;

CREATE MACRO wording.interface(says) AS 'every observed stage agrees, but the chain does not: ' || says;

CREATE MACRO wording.not_placed(says, timed, open) AS
    'the chain differs (' || says || '), and the stages that could locate the cause were not judged: '
    || CASE WHEN timed THEN 'the timed pass isolates no stage' ELSE coalesce(open, 'see the verdicts') END;

CREATE MACRO wording.fact_explains(culprit, fact, says) AS culprit || ': ' || fact || coalesce(' (' || says || ')', '');

CREATE MACRO wording.stage_differs(culprit, hints, says) AS
    culprit || ': ' || coalesce(hints || '; ', '') || coalesce(says, 'it differs');

CREATE MACRO wording.timed_only() AS 'timed only: the other passes judge whether its answers are right';

CREATE MACRO wording.agrees(declared, unchecked) AS
    'every required stage agrees' || coalesce(', except for declared differences: ' || declared, '')
    || coalesce('; ' || replace(unchecked, 'absent: ', ''), '');

CREATE MACRO wording.undecided(open, disagreement) AS
    'could not judge ' || coalesce(open, 'the cell: ' || disagreement, 'anything: no stage is required');

CREATE MACRO wording.chain_cases_failed(cases, first_case, detail) AS
    format('{} of the chain failed; {}: ', CASE cases WHEN 1 THEN '1 case' ELSE cases || ' cases' END, first_case)
    || left(detail, 300);
