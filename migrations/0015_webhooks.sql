-- Events for the shop's own systems: where they are to be sent, what was sent, what was answered.

CREATE TABLE webhook_endpoints (
    id               uuid PRIMARY KEY,
    url              text NOT NULL CHECK (length(url) BETWEEN 1 AND 2000),
    description      text,
    -- None: every type.
    event_types      text[] NOT NULL DEFAULT '{}',
    secret           bytea NOT NULL CHECK (length(secret) BETWEEN 24 AND 64),
    -- After a rotation both sign for a while, so that receivers can change over.
    old_secret       bytea,
    old_secret_until timestamptz,
    is_active        boolean NOT NULL DEFAULT true,
    disabled_reason  text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    deleted_at       timestamptz
);

-- One event for one endpoint. What is of one lane (an order) is delivered in the order of seq: the next one waits for the
-- end of those before it. The delivery itself is a saga.
CREATE TABLE webhook_deliveries (
    id             uuid PRIMARY KEY,
    seq            bigint GENERATED ALWAYS AS IDENTITY,
    endpoint_id    uuid NOT NULL REFERENCES webhook_endpoints,
    event_id       uuid NOT NULL,
    event_type     text NOT NULL,
    lane           uuid NOT NULL,
    body           text NOT NULL,
    is_again       boolean NOT NULL DEFAULT false,
    state          text NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'DELIVERED', 'FAILED')),
    correlation_id text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    ended_at       timestamptz,
    CHECK ((state = 'PENDING') = (ended_at IS NULL))
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX webhook_deliveries_once ON webhook_deliveries (endpoint_id, event_id) WHERE NOT is_again;
CREATE INDEX webhook_deliveries_waiting ON webhook_deliveries (endpoint_id, lane, seq) WHERE state = 'PENDING';
CREATE INDEX webhook_deliveries_log ON webhook_deliveries (endpoint_id, id);
CREATE INDEX webhook_deliveries_failed ON webhook_deliveries (endpoint_id, id) WHERE state = 'FAILED';
CREATE INDEX webhook_deliveries_age ON webhook_deliveries (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE webhook_attempts (
    delivery_id uuid NOT NULL,
    attempt     integer NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    headers     jsonb,
    status      smallint,
    answer      text,
    error       text,
    duration_ms real
);
CREATE INDEX webhook_attempts_delivery ON webhook_attempts (delivery_id);

INSERT INTO outbox_cursors (sink) VALUES ('webhooks');
