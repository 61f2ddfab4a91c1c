-- answers.sql - the graded answers that averages over samples are made of (averages.c): cell by cell, item by item, in
-- the order of k.  :keys is a JSON array of cell keys; NULL (unbound) = all cells.
SELECT s.cell_key, s.item, s.score, s.compat, CASE WHEN s.answered THEN s.extracted END
FROM cell_sample AS s
WHERE s.status = 'ok' AND s.score IS NOT NULL
      AND (:keys IS NULL OR s.cell_key IN (SELECT value FROM json_each(:keys)))
ORDER BY s.cell_key, s.item, s.k;
