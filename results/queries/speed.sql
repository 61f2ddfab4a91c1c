-- speed.sql - every cell that `trimbench speed` or `paper` measured: seconds per decode step over its repetitions, the
-- bytes that a step moves, and the bandwidth that the best repetition reached beside that of a copy on the same GPU.
SELECT r.id, r.started, r.status, m.name AS model, p.name AS policy, r.budget, r.buffer, max(t.ctx) AS ctx, r.batch,
       count(*) AS reps,
       min(r.batch * (r.max_new - 1) / t.seconds) AS tok_s_min, max(r.batch * (r.max_new - 1) / t.seconds) AS tok_s_max,
       1e3 * min(t.seconds) / (r.max_new - 1) AS ms_per_step_min, b.value AS bytes_per_step,
       b.value * (r.max_new - 1) / min(t.seconds) / 1e9 AS gb_s_max, g.copy_gb_s, g.name AS gpu
FROM run AS r JOIN timing AS t ON t.run_id = r.id AND t.phase = 'decode'
JOIN model AS m ON m.id = r.model_id JOIN policy AS p ON p.id = r.policy_id
LEFT JOIN counter AS b ON b.run_id = r.id AND b.name = 'bytes_per_step'
LEFT JOIN gpu AS g ON g.id = r.gpu_id
WHERE r.task_id IS NULL GROUP BY r.id ORDER BY r.id;
