-- bytes.sql - the points of the figure "accuracy against measured peak KV bytes of one sequence" (x in MiB).
SELECT task, policy, kv_bytes_peak / 1048576.0 AS x, accuracy, variance / n AS stderr_squared, n
FROM cell WHERE n > 0 AND kv_bytes_peak > 0 ORDER BY task, policy, x;
