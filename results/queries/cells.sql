-- cells.sql - the rows of the results table, one per cell.
-- :keys is a JSON array of cell keys, whose order is kept; NULL (unbound) = all cells in order of first appearance.
WITH wanted(cell_key, place) AS (
    SELECT value, min(key) FROM json_each(:keys) GROUP BY value
    UNION ALL
    SELECT cell_key, min(id) FROM run WHERE :keys IS NULL GROUP BY cell_key)
SELECT c.status, c.model, c.policy, c.policy_title, c.task, c.variant, c.prefill, c.query, c.numerics, c.backend,
       c.cell_key, c.error, c.budget, c.buffer, c.batch, c.max_new, c.n, c.accuracy, c.variance, c.partial,
       c.peak_slots, c.mean_slots, c.kv_bytes_peak, c.kv_bytes_batch_peak, c.prefill_tok_s, c.decode_tok_s,
       c.mean_tokens, c.n_length, c.n_errors
FROM wanted AS w JOIN cell AS c ON c.cell_key = w.cell_key
ORDER BY w.place;
