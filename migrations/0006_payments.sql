-- Payments: the intent stands here before the gateway is called, the result after it.

CREATE TABLE payments (
    id           uuid PRIMARY KEY,
    order_id     uuid NOT NULL UNIQUE,
    -- saga + step + direction: the same for every attempt, so a repeat is harmless at the gateway.
    key          text NOT NULL UNIQUE,
    state        text NOT NULL DEFAULT 'PENDING'
        CHECK (state IN ('PENDING', 'PROCESSING', 'SUCCEEDED', 'FAILED', 'REFUNDED', 'PARTIALLY_REFUNDED')),
    amount       bigint NOT NULL CHECK (amount >= 0),
    captured     bigint NOT NULL DEFAULT 0,
    refunded     bigint NOT NULL DEFAULT 0,
    currency     text NOT NULL,
    method       text,
    gateway_id   text,
    decline_code text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CHECK (captured IN (0, amount)),
    CHECK (refunded BETWEEN 0 AND captured)
) WITH (fillfactor = 70);

-- One state for all workers. A decline never counts.
CREATE TABLE breakers (
    name       text PRIMARY KEY,
    state      text NOT NULL DEFAULT 'CLOSED' CHECK (state IN ('CLOSED', 'OPEN', 'HALF_OPEN')),
    failures   integer NOT NULL DEFAULT 0,
    probe_at   timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 20);
INSERT INTO breakers (name) VALUES ('gateway');
