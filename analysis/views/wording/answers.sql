-- How an answer of the chain differs from the truth: one macro for each sentence.

CREATE MACRO wording.prompt_ids_differ(true_prompt, seen_prompt, differs_at) AS
    format('the prompt ids differ: {}', shown_difference(to_json(true_prompt)::varchar, to_json(seen_prompt)::varchar))
    || CASE
        WHEN differs_at IS NULL THEN ', but the answer is the same'
        ELSE format('; the answer differs from token {} on', differs_at)
    END;

CREATE MACRO wording.prompt_count_differs(seen, expected, same_answer) AS
    format('the prompt has {} tokens, the reference''s has {}', seen, expected)
    || CASE WHEN same_answer THEN ', but the answer is the same' ELSE '' END;

CREATE MACRO wording.token_differs(differs_at, expected, seen) AS
    format(
        'at output token {}: expected {}, seen {}',
        differs_at,
        coalesce(expected::varchar, 'the end'),
        coalesce(seen::varchar, 'the end')
    );

-- margin: nats by which the reference prefers its own token; tie: the largest margin of a tie, NULL without a floor.
CREATE MACRO wording.preference(margin, tie, sure_lead, max_flip_margin, ends) AS
    CASE
        WHEN margin IS NULL THEN CASE WHEN ends THEN '' ELSE ', which is not among the reference''s top tokens' END
        ELSE format('; the reference prefers its own by {:.2g} nats', margin)
            || CASE
                WHEN tie IS NULL AND margin > sure_lead THEN ', too much for a tie'
                WHEN tie IS NULL THEN '; without a floor this may be a tie'
                WHEN tie > max_flip_margin THEN format(', this cell''s own flips reach {:.2g}', tie)
                ELSE format(', benign flips reach {:.2g}', tie)
            END
    END;

CREATE MACRO wording.words_differ(expected, seen) AS
    'the words differ: ' || shown_difference(coalesce(expected, ''), coalesce(seen, ''));

CREATE MACRO wording.length_differs(expected, seen) AS
    'one text is a part of the other: ' || shown_difference(coalesce(expected, ''), coalesce(seen, ''));

CREATE MACRO wording.form_differs(expected, seen) AS
    'the same words in another form, or other calls: ' || shown_difference(coalesce(expected, ''), coalesce(seen, ''));

CREATE MACRO wording.count_differs(seen, expected) AS
    format('the answer is the same, but it has {} tokens, expected {}', seen, expected);

-- Of an answer whose ids are hidden: can the difference be a tie? lead: the reference's least lead up to there.
CREATE MACRO wording.tie_or_not(lead, benign_lead) AS
    CASE
        WHEN lead > benign_lead
            THEN format('; up to there the reference prefers each of its tokens by at least {:.2g} nats', lead)
        WHEN lead IS NULL THEN '; the reference''s lead is not known, so this may be a tie'
        ELSE
            format(
                '; the reference prefers one of its tokens by only {:.2g} nats, and with hidden ids this may '
                || 'be a tie (ties reach {:.2g})',
                lead,
                benign_lead
            )
    END;

CREATE MACRO wording.text_differs(expected, seen) AS
    'same tokens, different text: ' || shown_difference(coalesce(expected, ''), coalesce(seen, ''));

CREATE MACRO wording.finish_differs(expected, seen) AS
    format('same answer, but finish_reason is {}, expected {}', coalesce(seen, 'none'), coalesce(expected, 'none'));

CREATE MACRO wording.message_differs(expected, seen) AS
    'same text, different message: ' || coalesce(shown_difference(expected, seen), 'one side has none');

CREATE MACRO wording.stream_message_differs(whole, streamed, maybe_tie) AS
    'the streamed message differs: ' || shown_difference(whole, streamed)
    || CASE WHEN maybe_tie THEN '; with hidden ids this may be a tie' ELSE '' END;

CREATE MACRO wording.stream_finish_differs(whole, streamed) AS
    format('the stream''s finish_reason is {}, without streaming it is {}', streamed, whole);

CREATE MACRO wording.stream_text_unknown() AS
    'the streamed text differs, and it is not known whether the answer differs too';

CREATE MACRO wording.stream_text_differs(whole, streamed, maybe_tie) AS
    'the streamed text differs' || CASE WHEN maybe_tie THEN ', and with hidden ids this may be a tie: ' ELSE ': ' END
    || shown_difference(whole, streamed);
