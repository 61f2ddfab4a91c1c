-- views.sql - what is read from the tables: made anew whenever a file's version goes up, so that they stand only here.

DROP VIEW IF EXISTS cell;
DROP VIEW IF EXISTS cell_sample;
DROP VIEW IF EXISTS cell_run;

-- The runs that speak for a cell: those of the latest run's build, or all when that run took earlier builds' samples.
CREATE VIEW cell_run AS
SELECT r.cell_key, r.id AS run_id, l.latest AS latest_run_id, l.first AS first_run_id
FROM (SELECT cell_key, max(id) AS latest, min(id) AS first FROM run GROUP BY cell_key) AS l
JOIN run AS n ON n.id = l.latest
JOIN run AS r ON r.cell_key = l.cell_key AND (n.any_build OR r.build_id IS n.build_id);

-- The samples that count for a cell: of every (item, k) the newest.
CREATE VIEW cell_sample AS
SELECT s.* FROM sample AS s
WHERE s.id IN (SELECT max(t.id) FROM cell_run AS c JOIN sample AS t ON t.run_id = c.run_id
               GROUP BY c.cell_key, t.item, t.k);

-- One row per cell: its identity and last status from the latest run, its results from the samples that count.
-- The standard error of accuracy is sqrt(variance / n); variance is the sample variance, divisor n - 1.
-- n_length: stopped at the limit or at the end of the context, with an answer or without; n_no_answer: ended before it and had none.
CREATE VIEW cell AS
WITH result AS (
    SELECT s.cell_key,
           count(s.score) FILTER (WHERE s.status = 'ok') AS n,
           count(*) FILTER (WHERE s.status <> 'ok') AS n_errors,
           avg(s.score) FILTER (WHERE s.status = 'ok') AS accuracy,
           avg(s.compat) FILTER (WHERE s.status = 'ok') AS compat,
           avg(s.partial) FILTER (WHERE s.status = 'ok') AS partial,
           max(s.peak_slots) FILTER (WHERE s.status = 'ok') AS peak_slots,
           avg(s.mean_slots) FILTER (WHERE s.status = 'ok') AS mean_slots,
           max(s.kv_bytes_peak) FILTER (WHERE s.status = 'ok') AS kv_bytes_peak,
           avg(s.n_tokens) FILTER (WHERE s.status = 'ok') AS mean_tokens,
           count(*) FILTER (WHERE s.status = 'ok' AND s.stop IN ('length', 'context')) AS n_length,
           count(*) FILTER (WHERE s.status = 'ok' AND s.answered = 0 AND s.stop NOT IN ('length', 'context')) AS n_no_answer
    FROM cell_sample AS s GROUP BY s.cell_key),
spread AS (
    SELECT s.cell_key, sum((s.score - r.accuracy) * (s.score - r.accuracy)) / (count(s.score) - 1) AS variance
    FROM cell_sample AS s JOIN result AS r ON r.cell_key = s.cell_key
    WHERE s.status = 'ok' GROUP BY s.cell_key),
speed AS (
    SELECT c.cell_key,
           sum(t.n_tokens) FILTER (WHERE t.phase = 'prefill') / sum(t.seconds) FILTER (WHERE t.phase = 'prefill')
               AS prefill_tok_s,
           sum(t.n_tokens) FILTER (WHERE t.phase = 'decode') / sum(t.seconds) FILTER (WHERE t.phase = 'decode')
               AS decode_tok_s
    FROM cell_run AS c JOIN timing AS t ON t.run_id = c.run_id GROUP BY c.cell_key),
held AS (
    SELECT c.cell_key, max(m.kv) AS kv_bytes_batch_peak
    FROM cell_run AS c JOIN memory AS m ON m.run_id = c.run_id GROUP BY c.cell_key)
SELECT r.cell_key, r.id AS run_id, c.first_run_id, r.status, r.error,
       coalesce(m.name, m.path) AS model,
       CASE WHEN ifnull(p.params, '') IN ('', p.name) THEN p.name
            WHEN substr(p.params, 1, length(p.name) + 1) = p.name || ':' THEN p.params
            ELSE p.name || ':' || p.params END AS policy,
       coalesce(p.title, p.name) AS policy_title,
       t.name AS task, t.variant, r.prefill, r.query, r.backend, r.numerics,
       r.budget, r.buffer, r.batch, r.max_new,
       ifnull(s.n, 0) AS n, ifnull(s.n_errors, 0) AS n_errors, s.accuracy, v.variance, s.compat, s.partial,
       s.peak_slots, s.mean_slots, s.kv_bytes_peak, h.kv_bytes_batch_peak,
       w.prefill_tok_s, w.decode_tok_s, s.mean_tokens, ifnull(s.n_length, 0) AS n_length,
       ifnull(s.n_no_answer, 0) AS n_no_answer
FROM (SELECT DISTINCT cell_key, latest_run_id, first_run_id FROM cell_run) AS c
JOIN run AS r ON r.id = c.latest_run_id
LEFT JOIN model AS m ON m.id = r.model_id
LEFT JOIN policy AS p ON p.id = r.policy_id
LEFT JOIN task AS t ON t.id = r.task_id
LEFT JOIN result AS s ON s.cell_key = r.cell_key
LEFT JOIN spread AS v ON v.cell_key = r.cell_key
LEFT JOIN speed AS w ON w.cell_key = r.cell_key
LEFT JOIN held AS h ON h.cell_key = r.cell_key;
