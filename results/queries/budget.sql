-- budget.sql - the points of the figure "accuracy against M".  The full cache has no M: its accuracy is the height
-- of a horizontal line.
SELECT task, policy, CASE WHEN policy = 'full' THEN NULL ELSE budget END AS x, accuracy,
       variance / n AS stderr_squared, n
FROM cell WHERE n > 0 ORDER BY task, policy, x;
