-- dump.sql - all samples in an order that does not depend on who wrote them when.
SELECT item, k, tokens, score FROM sample ORDER BY cell_key, item, k, ifnull(build_id, 0), id;
