-- export_cells.sql - the cells with samples, those of one setting (all that is not the task) together: what
-- export.c puts into one results file of lm-evaluation-harness.
WITH one AS (
    SELECT c.cell_key, t.name AS task, t.variant, t.version, t.grader, t.grader_version, t.data_sha256, c.policy,
           m.path, m.adapter, p.name AS policy_name, r.*, m.sha256 AS model_sha256, m.weights, m.n_ctx,
           m.chat_template, m.chat_hash, b."commit", b.dirty, b.flags, b.compiler, b.cuda,
           h.os, h.cpu, h.n_cores, g.name AS gpu, g.driver, m.gates_sha256,
           json_array(m.sha256, m.adapter_sha256, CASE WHEN p.name = 'trimkv' THEN m.gates_sha256 END, c.policy,
                      CASE WHEN p.name = 'full' THEN 0 ELSE r.budget END,
                      CASE WHEN p.name = 'full' THEN 0 ELSE r.buffer END, r.prefill, r.query, r.numerics, r.backend,
                      r.temperature, r.top_p, r.top_k, r.min_p, r.seed, r.build_id) AS setting
    FROM cell AS c JOIN run AS r ON r.id = c.run_id JOIN task AS t ON t.id = r.task_id
    LEFT JOIN model AS m ON m.id = r.model_id LEFT JOIN policy AS p ON p.id = r.policy_id
    LEFT JOIN build AS b ON b.id = r.build_id LEFT JOIN host AS h ON h.id = r.host_id
    LEFT JOIN gpu AS g ON g.id = r.gpu_id
    WHERE c.n > 0)
SELECT setting, cell_key, task, coalesce(variant, '') AS variant, version, coalesce(data_sha256, '') AS data_sha256,
       seed, path, coalesce(adapter, '') AS adapter,
       policy || CASE WHEN policy_name = 'full' THEN '' ELSE printf('/M%d-B%d', budget, buffer) END
              || printf('/%s-%s-%s-%s', prefill, query, numerics, backend) AS name,
       max(started) OVER (PARTITION BY setting) AS started,
       json_object(
           'config', json_object(
               'model', 'trimbench',
               'model_args', printf('pretrained=%s%s,policy=%s,budget=%d,buffer=%d,prefill=%s,query=%s,numerics=%s',
                                    path, CASE WHEN adapter IS NULL THEN '' ELSE ',peft=' || adapter END, policy, budget,
                                    buffer, prefill, query, numerics),
               'model_dtype', weights, 'model_revision', '', 'model_sha', model_sha256,
               'batch_size', CAST(batch AS TEXT), 'batch_sizes', json_array(), 'device', backend, 'use_cache', NULL,
               'limit', nullif(item_limit, 0), 'bootstrap_iters', 0,
               'gen_kwargs', json_object('temperature', temperature, 'top_p', top_p, 'top_k', top_k, 'min_p', min_p),
               'random_seed', seed, 'numpy_seed', seed, 'torch_seed', seed, 'fewshot_seed', seed),
           'git_hash', "commit", 'date', (julianday(started) - 2440587.5) * 86400.0,
           'pretty_env_info', printf('%s; %s, %d cores; %s%s; %s, %s%s', os, cpu, n_cores,
                                     coalesce(gpu || ', driver ' || driver, 'no GPU'),
                                     CASE WHEN coalesce(cuda, '') = '' THEN '' ELSE ', CUDA ' || cuda END, compiler,
                                     flags, CASE WHEN dirty THEN '; built with local changes' ELSE '' END),
           'transformers_version', 'N/A', 'upper_git_hash', NULL, 'eot_token_id', NULL, 'max_length', n_ctx,
           'model_source', 'trimbench', 'system_instruction', NULL, 'system_instruction_sha', NULL,
           'fewshot_as_multiturn', NULL, 'chat_template', chat_template, 'chat_template_sha', chat_hash,
           'start_time', (min(julianday(started)) OVER (PARTITION BY setting) - 2440587.5) * 86400.0,
           'end_time', (max(julianday(finished)) OVER (PARTITION BY setting) - 2440587.5) * 86400.0,
           'total_evaluation_time_seconds',
           printf('%.3f', sum((julianday(finished) - julianday(started)) * 86400.0) OVER (PARTITION BY setting)))
           AS file,
       json_object(
           'task', task, 'output_type', 'generate_until', 'num_fewshot', 0,
           'metric_list', json_array(json_object('metric', 'score', 'aggregation', 'mean', 'higher_is_better', json('true')),
                                     json_object('metric', 'compat', 'aggregation', 'mean', 'higher_is_better', json('true')),
                                     json_object('metric', 'partial', 'aggregation', 'mean', 'higher_is_better', json('true'))),
           'generation_kwargs', json_object('max_gen_toks', max_new, 'do_sample', json(iif(temperature > 0, 'true', 'false')),
                                            'temperature', temperature, 'top_p', top_p, 'top_k', top_k, 'min_p', min_p),
           'repeats', (SELECT max(k) + 1 FROM cell_sample AS s WHERE s.cell_key = one.cell_key),
           'should_decontaminate', json('false'),
           'metadata', json_object('version', version, 'variant', variant, 'grader', grader,
                                   'grader_version', grader_version, 'data_sha256', data_sha256, 'policy', policy,
                                   'budget', budget, 'buffer', buffer, 'cell_key', cell_key)) AS config
FROM one ORDER BY path, setting, task, variant, max_new, cell_key;
