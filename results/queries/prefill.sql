-- prefill.sql - what sharing prompts saved, per command of `trimbench run`: tokens that its samples took from shared
-- forward passes, how many of them were computed, and the seconds that copying took and that the other passes would have
-- taken.
SELECT min(r.started) AS started, count(DISTINCT r.id) AS cells,
       sum(t.n_tokens) FILTER (WHERE t.phase = 'fork') AS tokens_asked,
       sum(t.n_tokens) FILTER (WHERE t.phase = 'fork')
           - ifnull(sum(t.n_tokens) FILTER (WHERE t.phase = 'prefill_saved'), 0) AS tokens_computed,
       sum(t.seconds) FILTER (WHERE t.phase = 'fork') AS copy_s,
       sum(t.seconds) FILTER (WHERE t.phase = 'prefill_saved') AS saved_s, r.argv
FROM run AS r JOIN timing AS t ON t.run_id = r.id
GROUP BY r.argv HAVING tokens_asked > 0 ORDER BY started;
