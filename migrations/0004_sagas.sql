-- Sagas: the recorded process of one subject (an order, a message), and the history of its attempts.
--
-- What is due stands here and nowhere else; Redis only carries hints. A row is updated at each step, so no index may
-- stand on what changes there (step, queue, attempt, lease): those updates stay HOT, within the page.

CREATE TABLE sagas (
    id             uuid PRIMARY KEY,
    kind           text NOT NULL,
    version        smallint NOT NULL,
    subject        uuid NOT NULL,
    state          text NOT NULL DEFAULT 'RUNNING'
        CHECK (state IN ('RUNNING', 'COMPENSATING', 'COMPLETED', 'COMPENSATED', 'COMPENSATION_FAILED')),
    -- The step that is next, and whether its action or its compensation is.
    step           text NOT NULL,
    direction      text NOT NULL DEFAULT 'forward' CHECK (direction IN ('forward', 'backward')),
    queue          text NOT NULL,
    priority       smallint NOT NULL DEFAULT 1 CHECK (priority BETWEEN 0 AND 2),
    -- The last mark that was passed: what a customer is shown as currentStep.
    reached        text NOT NULL,
    -- Attempts begun at this step; since when it stands there.
    attempt        integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    since          timestamptz NOT NULL,
    -- A retry or a patient wait: not due before.
    waits_until    timestamptz,
    -- A remote step under way: whose, until when, and the token that a late writer is refused by.
    lease_until    timestamptz,
    worker         text,
    token          bigint NOT NULL DEFAULT 0,
    -- Why it is undone; what the last attempt said while it waits.
    reason         text,
    note           text,
    correlation_id text NOT NULL,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    ended_at       timestamptz,
    UNIQUE (subject, kind),
    CHECK ((ended_at IS NOT NULL) = (state IN ('COMPLETED', 'COMPENSATED')))
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1);
-- Unfinished and not waiting: for relay and fallback. Flat with a million sagas waiting or ended.
CREATE INDEX sagas_ready ON sagas (id) WHERE waits_until IS NULL AND state IN ('RUNNING', 'COMPENSATING');
CREATE INDEX sagas_waiting ON sagas (waits_until) WHERE waits_until IS NOT NULL;
CREATE INDEX sagas_stuck ON sagas (id) WHERE state = 'COMPENSATION_FAILED';

-- Who tried what, when, for how long, with what outcome. Append-only, partitioned by time.
CREATE TABLE saga_attempts (
    saga_id     uuid NOT NULL,
    at          timestamptz NOT NULL,
    step        text NOT NULL,
    direction   text NOT NULL,
    attempt     integer NOT NULL,
    outcome     text NOT NULL CHECK (outcome IN ('done', 'refused', 'later', 'failed', 'lost', 'stuck', 'operator')),
    detail      text,
    worker      text NOT NULL,
    duration_ms real NOT NULL
) PARTITION BY RANGE (at);
CREATE INDEX saga_attempts_saga ON saga_attempts (saga_id);
CREATE TABLE saga_attempts_rest PARTITION OF saga_attempts DEFAULT;

-- What was given up on: kept with why, until somebody sends it round again.
CREATE TABLE dead_letters (
    id          uuid PRIMARY KEY,
    saga_id     uuid,
    queue       text NOT NULL,
    step        text NOT NULL,
    direction   text NOT NULL,
    error       text NOT NULL,
    payload     jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    redriven_at timestamptz,
    redriven_by text,
    reason      text
);
CREATE INDEX dead_letters_open ON dead_letters (id) WHERE redriven_at IS NULL;
CREATE INDEX dead_letters_saga ON dead_letters (saga_id);

-- The four queues' switches; workers read them each second. No limit unless somebody sets one.
CREATE TABLE queues (
    name       text PRIMARY KEY,
    rate_limit integer CHECK (rate_limit > 0),
    is_paused  boolean NOT NULL DEFAULT false,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL DEFAULT 'migration'
);
INSERT INTO queues (name) VALUES
    ('order-processing'), ('payment-processing'), ('inventory-management'), ('notification-sending');
