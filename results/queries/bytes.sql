-- bytes.sql - the points of the figure "accuracy against measured peak KV bytes of one sequence" (x in MiB); the error as
-- in budget.sql.
WITH item AS (SELECT cell_key, avg(score) AS mean FROM cell_sample WHERE status = 'ok' GROUP BY cell_key, item),
spread AS (SELECT cell_key, (avg(mean * mean) - avg(mean) * avg(mean)) / (count(*) - 1) AS stderr_squared
           FROM item GROUP BY cell_key)
SELECT task, policy, kv_bytes_peak / 1048576.0 AS x, accuracy, stderr_squared, n, query, prefill
FROM cell JOIN spread USING (cell_key) WHERE n > 0 AND kv_bytes_peak > 0 ORDER BY task, query, prefill, policy, x;
