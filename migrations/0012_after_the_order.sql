-- What becomes of an order once it is confirmed: it is shipped, in one piece or several; money is given back; goods come
-- back; people write notes beside it.

-- What left the house, in one parcel.
CREATE TABLE shipments (
    id              uuid PRIMARY KEY,
    order_id        uuid NOT NULL,
    carrier         text,
    tracking_number text,
    actor           uuid NOT NULL,
    shipped_at      timestamptz NOT NULL DEFAULT now(),
    delivered_at    timestamptz
);
CREATE INDEX shipments_order ON shipments (order_id);

CREATE TABLE shipment_lines (
    shipment_id uuid NOT NULL REFERENCES shipments,
    product_id  uuid NOT NULL,
    quantity    integer NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (shipment_id, product_id)
);

-- Money that is given back, asked for before the gateway is. A refund of lines may put units back that were not shipped;
-- a return is about units that were.
CREATE TABLE refunds (
    id             uuid PRIMARY KEY,
    order_id       uuid NOT NULL,
    kind           text NOT NULL CHECK (kind IN ('REFUND', 'RETURN')),
    state          text NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'SUCCEEDED', 'FAILED')),
    amount         bigint NOT NULL CHECK (amount >= 0),
    currency       text NOT NULL,
    is_restocked   boolean NOT NULL,
    reason         text NOT NULL,
    actor          uuid NOT NULL,
    correlation_id text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    ended_at       timestamptz,
    CHECK ((state = 'PENDING') = (ended_at IS NULL))
);
CREATE INDEX refunds_order ON refunds (order_id);

CREATE TABLE refund_lines (
    refund_id  uuid NOT NULL REFERENCES refunds,
    product_id uuid NOT NULL,
    quantity   integer NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (refund_id, product_id)
);

-- What has been asked for and not answered yet is as good as gone: refunds can't exceed what was captured, however many
-- ask at once. The row is also the lock under which everything after the order is decided.
ALTER TABLE payments
    ADD COLUMN refunding bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT payments_refunds_fit CHECK (refunding >= 0 AND refunded + refunding <= captured) NOT VALID;

-- Which refund brought goods back.
ALTER TABLE movements ADD COLUMN reference uuid;

-- Messages of one kind may be about several occasions of an order: shipments, refunds. Workers of the release before store
-- theirs under the constraint that goes here: stop them for this one.
ALTER TABLE notifications ADD COLUMN occasion uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000';
ALTER TABLE notifications DROP CONSTRAINT notifications_order_id_kind_channel_key;
ALTER TABLE notifications ADD CONSTRAINT notifications_order_id_kind_channel_occasion_key
    UNIQUE (order_id, kind, channel, occasion);
ALTER TABLE notifications DROP CONSTRAINT notifications_kind_check;
ALTER TABLE notifications ADD CONSTRAINT notifications_kind_check CHECK (kind IN (
    'order_confirmation', 'payment_failure', 'order_cancellation', 'order_shipped', 'order_refund')) NOT VALID;

-- What was named by a key: an order, or something after one.
ALTER TABLE idempotency_keys ADD COLUMN kind text NOT NULL DEFAULT 'order';

-- Beside an order's history, in words. What is not public is for staff alone.
CREATE TABLE order_notes (
    id         uuid PRIMARY KEY,
    order_id   uuid NOT NULL,
    text       text NOT NULL CHECK (length(text) BETWEEN 1 AND 2000),
    is_public  boolean NOT NULL,
    actor      uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX order_notes_order ON order_notes (order_id);
