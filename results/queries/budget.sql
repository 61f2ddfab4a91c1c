-- budget.sql - the points of the figure "accuracy against M".  The full cache has no M: its accuracy is the height
-- of a horizontal line.  The error takes the items for a random draw: variance of their means over their number.
WITH item AS (SELECT cell_key, avg(score) AS mean FROM cell_sample WHERE status = 'ok' GROUP BY cell_key, item),
spread AS (SELECT cell_key, (avg(mean * mean) - avg(mean) * avg(mean)) / (count(*) - 1) AS stderr_squared
           FROM item GROUP BY cell_key)
SELECT task, policy, CASE WHEN policy = 'full' THEN NULL ELSE budget END AS x, accuracy, stderr_squared, n, query,
       prefill
FROM cell JOIN spread USING (cell_key) WHERE n > 0 ORDER BY task, query, prefill, policy, x;
