-- cells.sql - the rows of the results table, one per cell.
-- :keys is a JSON array of cell keys, whose order is kept; NULL (unbound) = all cells in order of first appearance.
WITH wanted(cell_key, place) AS (
    SELECT value, min(key) FROM json_each(:keys) GROUP BY value
    UNION ALL
    SELECT cell_key, min(id) FROM run WHERE :keys IS NULL GROUP BY cell_key)
SELECT c.status, coalesce(m.path, c.model) AS model, c.policy, c.policy_title, c.task, c.variant, c.prefill, c.query, c.numerics, c.backend,
       c.cell_key, c.error, c.budget, c.buffer, c.batch, c.max_new, c.n, c.accuracy, c.variance, c.partial,
       c.peak_slots, c.mean_slots, c.kv_bytes_peak, c.kv_bytes_batch_peak, c.prefill_tok_s, c.decode_tok_s,
       c.mean_tokens, c.n_length, c.n_errors, m.adapter, m.gates,
       CASE WHEN r.temperature IS NULL THEN NULL WHEN r.temperature = 0 THEN 'greedy'
            ELSE printf('temperature %g', r.temperature) || CASE WHEN r.top_p < 1 THEN printf(' top-p %g', r.top_p) ELSE '' END
                 || CASE WHEN r.top_k > 0 THEN printf(' top-k %d', r.top_k) ELSE '' END
                 || CASE WHEN r.min_p > 0 THEN printf(' min-p %g', r.min_p) ELSE '' END END AS sampling,
       r.seed, c.compat, c.n_no_answer
FROM wanted AS w JOIN cell AS c ON c.cell_key = w.cell_key JOIN run AS r ON r.id = c.run_id
LEFT JOIN model AS m ON m.id = r.model_id
ORDER BY w.place;
