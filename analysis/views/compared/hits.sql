-- One row is a judged comparison that comes out as a declared difference says.
SELECT comparison_id, any_value(reason) AS reason
FROM compared.expected_hits
WHERE hit
GROUP BY comparison_id
