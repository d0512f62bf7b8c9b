-- What operators do, and work that costs workers their lives.

-- How often in a row a worker was lost with this saga. Only what may have happened before is counted (see saga/engine.py);
-- each result sets it back.
ALTER TABLE sagas ADD COLUMN claims smallint NOT NULL DEFAULT 0;

-- Who did what to which saga, queue or letter, and why. Append-only.
CREATE TABLE audit (
    id      uuid PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT now(),
    actor   text NOT NULL,
    act     text NOT NULL,
    subject text NOT NULL,
    reason  text NOT NULL,
    detail  jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_subject ON audit (subject, id);
