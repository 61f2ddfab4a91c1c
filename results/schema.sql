-- schema.sql - version 1 of the results file: what ran, on what, and what came out.
--
-- Append-only: rows are inserted and never changed, except that a run's status, error and finish time are set when
-- it ends.  host, gpu, build, model, policy and task hold one row per distinct content.  A run is one attempt at a
-- cell (cell_key = sha256 of everything that may change an answer); a sample is one answer.  NULL = unknown or not
-- measured, never 0.  Times are UTC, ISO 8601; sizes are bytes.

CREATE TABLE host (
    id          INTEGER PRIMARY KEY,
    hostname    TEXT,
    os          TEXT,
    cpu         TEXT,
    n_cores     INTEGER,
    ram_bytes   INTEGER
) STRICT;

CREATE TABLE gpu (
    id            INTEGER PRIMARY KEY,
    name          TEXT,
    uuid_hash     TEXT,     -- the uuid itself is not kept
    driver        TEXT,
    memory_bytes  INTEGER,
    sm_clock_mhz  INTEGER,
    mem_clock_mhz INTEGER,
    ecc           INTEGER,
    power_cap_w   REAL,
    copy_gb_s     REAL      -- measured: best of device copy and read kernel, 1e9 bytes per second
) STRICT;

CREATE TABLE build (
    id       INTEGER PRIMARY KEY,
    "commit" TEXT,
    dirty    INTEGER,       -- 1: built from a tree with local changes
    flags    TEXT,
    compiler TEXT,
    cuda     TEXT
) STRICT;

CREATE TABLE model (
    id               INTEGER PRIMARY KEY,
    path             TEXT,
    sha256           TEXT,
    arch             TEXT,
    name             TEXT,
    weights          TEXT,  -- storage type, "Q4_1", "BF16"
    adapter          TEXT,
    adapter_sha256   TEXT,
    gates            TEXT,
    gates_sha256     TEXT,
    tokenizer_sha256 TEXT,
    chat_template    TEXT,
    chat_hash        TEXT,
    n_layers         INTEGER,
    dim              INTEGER,
    n_heads          INTEGER,
    n_kv_heads       INTEGER,
    head_dim         INTEGER,
    n_ctx            INTEGER
) STRICT;

CREATE TABLE policy (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL,
    params TEXT,            -- non-default parameters, key=value:key=value
    sha256 TEXT,
    title  TEXT             -- for plots and tables
) STRICT;

CREATE TABLE task (
    id             INTEGER PRIMARY KEY,
    name           TEXT NOT NULL,
    variant        TEXT,    -- prompt variant
    grader         TEXT,
    data_sha256    TEXT,
    version        INTEGER,
    grader_version INTEGER
) STRICT;

CREATE TABLE run (
    id          INTEGER PRIMARY KEY,
    cell_key    TEXT NOT NULL,
    host_id     INTEGER REFERENCES host(id),
    gpu_id      INTEGER REFERENCES gpu(id),
    build_id    INTEGER REFERENCES build(id),
    model_id    INTEGER REFERENCES model(id),
    policy_id   INTEGER REFERENCES policy(id),
    task_id     INTEGER REFERENCES task(id),
    -- in the cell key
    budget      INTEGER,    -- M, slots per layer and KV head
    buffer      INTEGER,    -- B
    prefill     TEXT,       -- "full" or "stream:C"
    query       TEXT,       -- "after": the context was compressed without the question; "before": with it
    max_new     INTEGER,
    temperature REAL,
    top_p       REAL,
    min_p       REAL,
    top_k       INTEGER,
    seed        INTEGER,
    backend     TEXT,
    numerics    TEXT,
    -- not in the cell key
    batch       INTEGER,
    n_threads   INTEGER,
    item_limit  INTEGER,
    cache_type  TEXT,
    score_path  TEXT,       -- "host": the policy's definition ran on the CPU
    argv        TEXT,
    any_build   INTEGER NOT NULL DEFAULT 0, -- 1: samples of earlier builds were taken as done (--resume-any)
    -- who is writing: lets a later process see that the writer is gone
    hostname    TEXT,
    boot_id     TEXT,
    pid_space   TEXT,       -- pid namespace
    pid         INTEGER,
    pid_start   INTEGER,    -- clock ticks after boot
    started     TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    finished    TEXT,
    status      TEXT NOT NULL
                CHECK (status IN ('queued', 'running', 'done', 'oom', 'timeout', 'error', 'interrupted')),
    error       TEXT,
    UNIQUE (id, cell_key)
) STRICT;
CREATE INDEX run_cell ON run(cell_key, id);
CREATE INDEX run_running ON run(status) WHERE status = 'running';

CREATE TABLE sample (
    id             INTEGER PRIMARY KEY,
    run_id         INTEGER NOT NULL,
    cell_key       TEXT NOT NULL,   -- the run's: here so that the unique index below can see it
    build_id       INTEGER,         -- the run's
    item           TEXT NOT NULL,
    k              INTEGER NOT NULL,
    prompt_sha256  TEXT,
    prompt_tokens  INTEGER,
    first_ids      TEXT,            -- JSON array: the first 16 prompt ids
    tokens         TEXT NOT NULL,   -- JSON array: generated ids
    n_tokens       INTEGER NOT NULL,
    stop           TEXT,            -- eos, length, stop-string, context
    output         TEXT,
    extracted      TEXT,
    gold           TEXT,
    score          REAL,            -- accuracy, 0 or 1
    partial        REAL,
    answered       INTEGER,
    strict         REAL,            -- the strict and the compatible grader, where a task has them
    compat         REAL,
    prefill_s      REAL,
    decode_s       REAL,
    peak_slots     REAL,            -- max over forwards of the slots held, mean over layers and KV heads
    mean_slots     REAL,            -- the same, mean over decode steps
    kv_bytes_peak  INTEGER,         -- read from the allocator
    n_evictions    INTEGER,
    n_moved        INTEGER,
    prefill_shared INTEGER,         -- 1: one forward over the prompt served several cells
    logits_hash    TEXT,
    status         TEXT NOT NULL CHECK (status IN ('ok', 'error')),
    error          TEXT,
    finished       TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    FOREIGN KEY (run_id, cell_key) REFERENCES run(id, cell_key)
) STRICT;
-- One row per answer, whoever writes it: a resumed or a second process cannot double one.
CREATE UNIQUE INDEX sample_once ON sample(cell_key, item, k, ifnull(build_id, 0));
CREATE INDEX sample_run ON sample(run_id);

CREATE TABLE timing (
    id            INTEGER PRIMARY KEY,
    run_id        INTEGER NOT NULL REFERENCES run(id),
    phase         TEXT NOT NULL,    -- prefill, decode; fork, prefill_saved: results/README.md
    rep           INTEGER NOT NULL,
    batch         INTEGER,
    ctx           INTEGER,          -- tokens seen at the first timed step
    n_tokens      INTEGER,
    seconds       REAL,
    sm_clock_mhz  INTEGER,
    mem_clock_mhz INTEGER,
    temp_c        INTEGER,
    throttle      INTEGER,          -- bit mask as the driver gives it
    live_first    INTEGER,          -- live slots per KV head at the first and last timed step
    live_last     INTEGER
) STRICT;
CREATE INDEX timing_run ON timing(run_id);

CREATE TABLE memory (
    id                 INTEGER PRIMARY KEY,
    run_id             INTEGER NOT NULL REFERENCES run(id),
    weights            INTEGER,
    kv                 INTEGER,     -- the whole batch
    workspace          INTEGER,
    graphs             INTEGER,
    device_free_before INTEGER,
    device_free_after  INTEGER,
    host_peak_rss      INTEGER
) STRICT;
CREATE INDEX memory_run ON memory(run_id);

CREATE TABLE counter (
    id     INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES run(id),
    name   TEXT NOT NULL,
    value  INTEGER NOT NULL
) STRICT;
CREATE INDEX counter_run ON counter(run_id, name);

-- Published values.  What a paper may leave out or write in words ("819 (10%)", "up to ~123k") is text.
CREATE TABLE paper_number (
    id              INTEGER PRIMARY KEY,
    paper           TEXT NOT NULL,  -- arXiv id
    version         TEXT,
    table_or_figure TEXT,
    model           TEXT,
    task            TEXT,
    metric          TEXT,
    policy          TEXT,
    budget          TEXT,
    buffer          TEXT,
    context         TEXT,
    batch           TEXT,
    gen_len         TEXT,
    hardware        TEXT,
    value           REAL NOT NULL,
    standard_error  REAL,
    unit            TEXT,
    read_from       TEXT,           -- table, text, figure-estimate, secondary
    source          TEXT,
    note            TEXT
) STRICT;
CREATE INDEX paper_number_place ON paper_number(paper, table_or_figure);
