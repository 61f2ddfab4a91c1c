-- scores.sql - the scores of one cell, item by item.
SELECT item, score FROM cell_sample WHERE cell_key = ?1 AND status = 'ok' AND score IS NOT NULL ORDER BY item, k;
