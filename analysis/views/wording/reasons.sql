-- Why a verdict is not `qualified`: one macro for each reason. A reason is its code and its sentence; the rules
-- use the code, people read the sentence. No other file words a reason.

-- What was compared and differs.
CREATE MACRO wording.differ(divergent, n, gaps) AS {
    'code': 'differ',
    'text': format('{} of {} differ', divergent, n)
        || CASE WHEN gaps > 0 THEN format(', {} could not be compared', gaps) ELSE '' END
};

CREATE MACRO wording.differ_as_declared(expected, n) AS {
    'code': 'differ_as_declared', 'text': format('{} of {} differ as declared', expected, n)
};

CREATE MACRO wording.kl_too_large(probe) AS {
    'code': 'kl_too_large', 'text': format('{}: mean KL is above the margin and beyond the floor', probe)
};

CREATE MACRO wording.not_finite(probe, nonfinite, n) AS {
    'code': 'not_finite', 'text': format('{}: {} of {} positions are NaN or infinite', probe, nonfinite, n)
};

CREATE MACRO wording.answers_differ(mismatches, n, unexplained, causes, gaps) AS {
    'code': CASE WHEN unexplained > 0 THEN 'answers_differ_unexplained' ELSE 'answers_differ' END,
    'text': format('{} of {} answers differ', mismatches, n)
        || CASE
            WHEN unexplained > 0 THEN format(', and no stage explains {} of them', unexplained)
            ELSE coalesce(format(', explained by {}', causes), '')
        END
        || CASE WHEN gaps > 0 THEN format(', {} could not be compared', gaps) ELSE '' END
};

CREATE MACRO wording.answers_differ_as_declared(mismatches, n) AS {
    'code': 'differ_as_declared', 'text': format('{} of {} answers differ as declared', mismatches, n)
};

-- What was not observed. The code is what `observed` holds: hidden, absent or not_probed.
CREATE MACRO wording.not_shown(star, why) AS {'code': star, 'text': star || coalesce(': ' || why, '')};

CREATE MACRO wording.no_case(why := NULL) AS {
    'code': 'not_probed', 'text': 'not_probed: ' || coalesce(why, 'the suite has no case for this stage')
};

CREATE MACRO wording.none_occurred() AS {
    'code': 'not_probed', 'text': 'not_probed: what the cases test did not occur'
};

CREATE MACRO wording.absent() AS {'code': 'absent', 'text': 'absent: the engine has nothing that the cases ask for'};

CREATE MACRO wording.hidden() AS {'code': 'hidden', 'text': 'hidden: the engine shows nothing of this stage'};

CREATE MACRO wording.none_can_be_asked() AS {
    'code': 'hidden', 'text': 'hidden: this engine takes none of the suite''s chain cases'
};

-- What could not be decided.
CREATE MACRO wording.attempts_disagree(says) AS {'code': 'attempts_disagree', 'text': says};

CREATE MACRO wording.no_trace(lost) AS {
    'code': 'no_trace', 'text': coalesce(lost, 'the attempt recorded nothing of this stage')
};

CREATE MACRO wording.not_compared(probe, gaps, planned, missing, failed, without_truth, first_gap, lost) AS {
    'code': 'not_compared',
    'text': coalesce(probe || ': ', '')
        || format(
            '{} of {} cases not compared ({} missing, {} failed, {} without truth); first: {}',
            gaps,
            planned,
            missing,
            failed,
            without_truth,
            first_gap
        )
        || coalesce('; ' || lost, '')
};

CREATE MACRO wording.too_few_repeats(repeats, needed) AS {
    'code': 'too_few_repeats', 'text': format('only {} of {} repeats answered', repeats, needed)
};

CREATE MACRO wording.reenacted(probe, reenacted, n) AS {
    'code': 'reenacted',
    'text': coalesce(probe || ': ', '')
        || format(
            '{} of {} cases are reenacted: that can show a divergence, but it cannot qualify a stage', reenacted, n
        )
};

CREATE MACRO wording.instrument_fails(verdict, why) AS {
    'code': 'instrument_fails',
    'text': format(
        'the instrument is {}: {}', replace(coalesce(verdict, 'missing'), '_', ' '), coalesce(why, 'no reason recorded')
    )
};

CREATE MACRO wording.instrument_fails_answers(unsteady, n) AS {
    'code': 'instrument_fails',
    'text': format('{} of {} answers have different tokens, and the instrument is divergent', unsteady, n)
};

CREATE MACRO wording.no_margin() AS {
    'code': 'no_margin', 'text': 'no margin is declared for this pass: give the variant a `margin`'
};

CREATE MACRO wording.no_floor(probe, function_digest, compute_dtype, backend) AS {
    'code': 'no_floor',
    'text': format(
        '{}: there is no floor for function {}, compute dtype {}, backend {}: measure one with `fleetqual '
        || 'reference floors`',
        probe, coalesce(function_digest, 'unknown'), coalesce(compute_dtype, 'unknown'), backend
    )
};

CREATE MACRO wording.floor_too_small(probe, floor_id, configurations, needed) AS {
    'code': 'floor_too_small',
    'text': format(
        '{}: the floor {} has only {} configurations; {} are needed',
        probe,
        floor_id,
        coalesce(configurations, 0),
        needed
    )
};

CREATE MACRO wording.floor_with_prior(configurations, degrees) AS format(
    ' (floor: {} configurations and the floors of other models, {:.0f} degrees of freedom)', configurations, degrees
);

CREATE MACRO wording.within_floor(probe, p_value, adjusted_p) AS {
    'code': 'within_floor',
    'text': format(
        '{}: mean KL is above the margin, but not beyond what benign configurations show (p = {:.2g}, adjusted {:.2g})',
        probe, p_value, adjusted_p
    )
};

CREATE MACRO wording.margin_inside_interval(probe) AS {
    'code': 'margin_inside_interval', 'text': format('{}: the 95 % interval of mean KL contains the margin', probe)
};

CREATE MACRO wording.not_judged(failure) AS {'code': 'not_judged', 'text': failure};
