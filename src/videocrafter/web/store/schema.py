"""Tables of the studio's database, as one script per version. Scripts are never changed, only added."""

from __future__ import annotations

MIGRATIONS: tuple[str, ...] = (
    """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    position REAL NOT NULL,
    request TEXT NOT NULL,
    live TEXT,
    idempotency_key TEXT UNIQUE,
    created_s REAL NOT NULL,
    started_s REAL,
    finished_s REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    owner TEXT,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    step INTEGER NOT NULL DEFAULT 0,
    num_steps INTEGER NOT NULL DEFAULT 0,
    preview INTEGER NOT NULL DEFAULT 0,
    notes TEXT NOT NULL DEFAULT '[]',
    error TEXT
);
CREATE INDEX jobs_in_order ON jobs (state, position);
CREATE UNIQUE INDEX one_job_per_live_page ON jobs (live) WHERE state = 'queued' AND live IS NOT NULL;
CREATE TABLE videos (
    id TEXT PRIMARY KEY,
    job TEXT NOT NULL,
    number INTEGER NOT NULL,
    created_s REAL NOT NULL,
    prompt TEXT NOT NULL,
    model TEXT NOT NULL,
    request TEXT NOT NULL,
    recording TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    num_frames INTEGER NOT NULL,
    playback_fps REAL NOT NULL,
    num_bytes INTEGER NOT NULL,
    seconds REAL NOT NULL,
    workload TEXT NOT NULL,
    starred INTEGER NOT NULL DEFAULT 0,
    live INTEGER NOT NULL DEFAULT 0,
    deleted_s REAL,
    UNIQUE (job, number)
);
CREATE INDEX videos_newest ON videos (live, deleted_s, created_s DESC, id DESC);
CREATE INDEX videos_by_workload ON videos (workload, created_s DESC);
CREATE TABLE uploads (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('image', 'clip')),
    suffix TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    num_bytes INTEGER NOT NULL,
    created_s REAL NOT NULL
);
CREATE UNIQUE INDEX uploads_by_content ON uploads (kind, sha256);
CREATE TABLE flags (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    step INTEGER NOT NULL DEFAULT 0,
    num_steps INTEGER NOT NULL DEFAULT 0,
    preview INTEGER NOT NULL DEFAULT 0
);
CREATE TRIGGER job_added AFTER INSERT ON jobs BEGIN
    INSERT INTO events (kind, subject) VALUES ('queue', new.id);
END;
CREATE TRIGGER job_removed AFTER DELETE ON jobs BEGIN
    INSERT INTO events (kind, subject) VALUES ('queue', old.id);
END;
CREATE TRIGGER job_changed AFTER UPDATE OF state, position, request, attempts, cancel_requested, notes ON jobs
BEGIN
    INSERT INTO events (kind, subject) VALUES ('queue', new.id);
END;
CREATE TRIGGER job_progressed AFTER UPDATE OF step, num_steps, preview ON jobs BEGIN
    INSERT INTO events (kind, subject, step, num_steps, preview)
    VALUES ('progress', new.id, new.step, new.num_steps, new.preview);
END;
CREATE TRIGGER video_added AFTER INSERT ON videos BEGIN
    INSERT INTO events (kind, subject) VALUES ('video', new.id);
END;
CREATE TRIGGER video_changed AFTER UPDATE ON videos BEGIN
    INSERT INTO events (kind, subject) VALUES ('video', new.id);
END;
CREATE TRIGGER flag_added AFTER INSERT ON flags BEGIN
    INSERT INTO events (kind, subject) VALUES ('queue', '');
END;
CREATE TRIGGER flag_changed AFTER UPDATE ON flags BEGIN
    INSERT INTO events (kind, subject) VALUES ('queue', '');
END;
CREATE TRIGGER flag_removed AFTER DELETE ON flags BEGIN
    INSERT INTO events (kind, subject) VALUES ('queue', '');
END;
""",
    """
CREATE INDEX jobs_finished ON jobs (finished_s DESC, id DESC) WHERE live IS NULL AND finished_s IS NOT NULL;
CREATE INDEX jobs_finished_by_state ON jobs (state, finished_s DESC, id DESC)
    WHERE live IS NULL AND finished_s IS NOT NULL;
CREATE INDEX videos_models ON videos (live, model);
CREATE TRIGGER video_removed AFTER DELETE ON videos BEGIN
    INSERT INTO events (kind, subject) VALUES ('video', old.id);
END;
""",
)
