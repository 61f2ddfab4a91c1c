-- export_samples.sql - the samples that count for a cell, in the order of the items.
SELECT item, coalesce(prompt_sha256, ''), coalesce(output, ''), coalesce(extracted, ''), coalesce(gold, ''), score,
       coalesce(compat, score), coalesce(partial, score)
FROM cell_sample WHERE cell_key = ? AND status = 'ok' ORDER BY CAST(item AS INTEGER), item, k;
