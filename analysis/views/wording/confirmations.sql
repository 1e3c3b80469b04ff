-- Whether a swap confirms a culprit: one macro for each sentence.

CREATE MACRO wording.without_control(alone) AS coalesce(' (no control swap: ' || alone || ')', '');

CREATE MACRO wording.confirmed(case_id, says) AS format('confirmed in {}: {}', case_id, says);

CREATE MACRO wording.not_confirmed(case_id, says) AS format('not confirmed in {}: {}', case_id, says);

CREATE MACRO wording.nobody_blamed() AS 'nothing to confirm: no stage is the culprit';

CREATE MACRO wording.interface_not_swapped() AS 'cannot be confirmed: no single swapped part explains it';

CREATE MACRO wording.hidden_not_swapped() AS 'cannot be confirmed: hidden stages cannot be swapped one by one';

CREATE MACRO wording.stage_not_swapped(culprit) AS format('cannot be confirmed: no swap tests {}', culprit);

CREATE MACRO wording.no_symptom() AS 'cannot be confirmed: no chain answer shows a symptom of this stage';

CREATE MACRO wording.control_has_effect(case_id, says) AS
    format('neither confirmed nor refuted in {}: a control swap has the same effect: {}', case_id, says);

CREATE MACRO wording.rival_stages(case_id, rivals) AS
    format('cannot be confirmed: in {} no swap separates this stage from {}', case_id, rivals);

CREATE MACRO wording.symptom_not_swapped(culprit) AS
    format('cannot be confirmed: no swap tests {} with such an answer', culprit);

CREATE MACRO wording.swap_missing(failure) AS
    'cannot be confirmed: the chain shows the symptom, but '
    || coalesce('a swap failed: ' || failure, 'no swap was run');
