-- paper.sql - published values of one table and metric (?1 paper, ?2 table or figure, ?3 metric), in printed order; a
-- value that was imported again with another number or note replaces the older one.
SELECT paper, version, table_or_figure, model, task, metric, policy, budget, buffer, context, batch, gen_len, hardware,
       value, unit, read_from, source, note
FROM paper_number
WHERE id IN (SELECT max(id) FROM paper_number WHERE paper = ?1 AND table_or_figure = ?2 AND metric = ?3
             GROUP BY version, model, task, policy, budget, buffer, context, batch, gen_len, hardware, unit)
ORDER BY id;
