-- The engine's tables. Times are Unix milliseconds; documents are JSON text.
-- `event` is the truth about a run. run, job, edge, task and attempt are its fold, written in the
-- same transaction; only leases (task.lease_until_ms) and progress are not in the log, because
-- they say nothing about what has happened.

CREATE TABLE pipeline (
    definition_sha256 TEXT PRIMARY KEY,
    name              TEXT NOT NULL,
    source            TEXT,
    first_run_ms      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE run (
    id                TEXT PRIMARY KEY,
    definition_sha256 TEXT NOT NULL REFERENCES pipeline,
    definition        TEXT NOT NULL,
    plan_sha256       TEXT NOT NULL,
    status            TEXT NOT NULL,
    cause             TEXT,
    outputs           TEXT NOT NULL,
    submitted_ms      INTEGER NOT NULL,
    settled_ms        INTEGER,
    last_event        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX run_by_time ON run (submitted_ms, id);

CREATE TABLE job (
    run_id     TEXT NOT NULL REFERENCES run,
    position   INTEGER NOT NULL,
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    zone       TEXT NOT NULL,
    finally    INTEGER NOT NULL,
    status     TEXT NOT NULL,
    remaining  INTEGER NOT NULL,
    unsettled  INTEGER NOT NULL,
    failure    TEXT,
    skipped    TEXT,
    started_ms INTEGER,
    settled_ms INTEGER,
    PRIMARY KEY (run_id, position),
    UNIQUE (run_id, name)
) STRICT, WITHOUT ROWID;

-- One row per `needs`; `remaining` is 1 until `before` has succeeded, so that job.remaining is
-- the sum over the rows that end in the job.
CREATE TABLE edge (
    run_id    TEXT NOT NULL,
    before    INTEGER NOT NULL,
    after     INTEGER NOT NULL,
    remaining INTEGER NOT NULL,
    PRIMARY KEY (run_id, before, after),
    FOREIGN KEY (run_id, before) REFERENCES job,
    FOREIGN KEY (run_id, after) REFERENCES job
) STRICT, WITHOUT ROWID;

CREATE TABLE task (
    run_id         TEXT NOT NULL,
    job            INTEGER NOT NULL,
    idx            INTEGER NOT NULL,
    status         TEXT NOT NULL,
    run_at_ms      INTEGER NOT NULL,
    input          TEXT,
    output         TEXT,
    failures       INTEGER NOT NULL,
    fence          INTEGER NOT NULL,
    worker         TEXT,
    boot           TEXT,
    lease_until_ms INTEGER,
    progress       TEXT,
    PRIMARY KEY (run_id, job, idx),
    FOREIGN KEY (run_id, job) REFERENCES job
) STRICT, WITHOUT ROWID;

CREATE TABLE attempt (
    run_id     TEXT NOT NULL,
    job        INTEGER NOT NULL,
    idx        INTEGER NOT NULL,
    fence      INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    action     TEXT NOT NULL,
    worker     TEXT NOT NULL,
    boot       TEXT NOT NULL,
    status     TEXT NOT NULL,
    outcome    TEXT,
    started_ms INTEGER NOT NULL,
    settled_ms INTEGER,
    PRIMARY KEY (run_id, job, idx, fence),
    FOREIGN KEY (run_id, job, idx) REFERENCES task
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    run_id TEXT NOT NULL REFERENCES run,
    seq    INTEGER NOT NULL,
    at_ms  INTEGER NOT NULL,
    change TEXT NOT NULL,
    PRIMARY KEY (run_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE log (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL,
    job    INTEGER NOT NULL,
    idx    INTEGER NOT NULL,
    fence  INTEGER NOT NULL,
    at_ms  INTEGER NOT NULL,
    line   TEXT NOT NULL,
    FOREIGN KEY (run_id, job) REFERENCES job
) STRICT;
CREATE INDEX log_by_run ON log (run_id, job, id);

CREATE TABLE artifact (
    run_id     TEXT NOT NULL REFERENCES run,
    name       TEXT NOT NULL,
    job        INTEGER NOT NULL,
    idx        INTEGER NOT NULL,
    sha256     TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    made_ms    INTEGER NOT NULL,
    PRIMARY KEY (run_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE schedule (
    id                TEXT PRIMARY KEY,
    definition_sha256 TEXT NOT NULL REFERENCES pipeline,
    cron              TEXT NOT NULL,
    time_zone         TEXT NOT NULL,
    inputs            TEXT NOT NULL,
    paused            INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One run per instant of a schedule, however many engines see it.
CREATE TABLE tick (
    schedule_id TEXT NOT NULL REFERENCES schedule,
    instant_ms  INTEGER NOT NULL,
    run_id      TEXT REFERENCES run,
    PRIMARY KEY (schedule_id, instant_ms)
) STRICT, WITHOUT ROWID;

-- One run per delivery of a webhook, however often it is sent.
CREATE TABLE delivery (
    hook        TEXT NOT NULL,
    delivery_id TEXT NOT NULL,
    received_ms INTEGER NOT NULL,
    run_id      TEXT REFERENCES run,
    PRIMARY KEY (hook, delivery_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE approval (
    run_id     TEXT NOT NULL,
    job        INTEGER NOT NULL,
    approver   TEXT NOT NULL,
    decision   TEXT NOT NULL,
    document   TEXT NOT NULL,
    decided_ms INTEGER NOT NULL,
    PRIMARY KEY (run_id, job, approver),
    FOREIGN KEY (run_id, job) REFERENCES job
) STRICT, WITHOUT ROWID;

-- Each row names the one before it, so that none can be taken out unseen.
CREATE TABLE audit (
    seq             INTEGER PRIMARY KEY,
    at_ms           INTEGER NOT NULL,
    actor           TEXT NOT NULL,
    action          TEXT NOT NULL,
    subject         TEXT NOT NULL,
    previous_sha256 TEXT NOT NULL,
    sha256          TEXT NOT NULL
) STRICT;
