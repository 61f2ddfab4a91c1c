-- groups.sql - results by group of items, for tasks whose item ids name groups: 12:hard/short is in hard and in short
-- (LongBench v2), 3:8k+ in 8k+ (LongBench-E).  A group's standard error is over its samples.
--   sqlite3 -box results/trimbench.sqlite < results/queries/groups.sql
WITH grouped AS (
    SELECT cell_key, score, compat, substr(item, instr(item, ':') + 1) || '/' AS groups
    FROM cell_sample WHERE status = 'ok' AND instr(item, ':') > 0),
one AS (
    SELECT cell_key, score, compat, substr(groups, 1, instr(groups, '/') - 1) AS part FROM grouped
    UNION ALL
    SELECT cell_key, score, compat, trim(substr(groups, instr(groups, '/') + 1), '/') FROM grouped
    WHERE length(groups) > instr(groups, '/'))
SELECT c.task, c.variant, c.policy, c.budget, o.part AS part, count(*) AS n, round(avg(o.score), 4) AS score,
       round(sqrt((avg(o.score * o.score) - avg(o.score) * avg(o.score)) / nullif(count(*) - 1, 0)), 4) AS stderr,
       round(avg(o.compat), 4) AS compat
FROM one AS o JOIN cell AS c ON c.cell_key = o.cell_key
GROUP BY c.cell_key, o.part ORDER BY c.task, c.variant, c.policy, c.budget, o.part;
