-- Orders, their lines, their moves from state to state, and the idempotency keys that they were placed under.

CREATE TABLE orders (
    id               uuid PRIMARY KEY,
    customer_id      uuid NOT NULL,
    saga_id          uuid NOT NULL,
    state            text NOT NULL DEFAULT 'PENDING' CHECK (state IN (
        'PENDING', 'PROCESSING', 'PAYMENT_PENDING', 'PAYMENT_FAILED', 'CONFIRMED',
        'SHIPPED', 'DELIVERED', 'CANCELLED', 'REFUNDED')),
    total_amount     bigint NOT NULL CHECK (total_amount >= 0),
    currency         text NOT NULL,
    payment_method   text,
    shipping_address jsonb,
    notes            text,
    failure_reason   text,
    correlation_id   text NOT NULL,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    ended_at         timestamptz,
    CHECK (state <> 'CANCELLED' OR failure_reason IS NOT NULL),
    CHECK ((ended_at IS NULL) = (state IN ('PENDING', 'PROCESSING', 'PAYMENT_PENDING', 'PAYMENT_FAILED')))
) WITH (fillfactor = 70);
-- A customer's orders, newest first: ids sort by time.
CREATE INDEX orders_customer ON orders (customer_id, id);
-- How many a customer has under way (MAX_OPEN_ORDERS); only the first and the last move touch it.
CREATE INDEX orders_open ON orders (customer_id) WHERE ended_at IS NULL;

-- A product stands once in an order: repeated lines are summed before. Name and price are as they were sold.
CREATE TABLE order_lines (
    order_id     uuid NOT NULL,
    position     smallint NOT NULL,
    product_id   uuid NOT NULL,
    sku          text NOT NULL,
    product_name text NOT NULL,
    quantity     integer NOT NULL CHECK (quantity > 0),
    unit_price   bigint NOT NULL CHECK (unit_price >= 0),
    PRIMARY KEY (order_id, product_id)
);

-- No state without its history. The table of legal moves stands in orders/model.py; doctor compares.
CREATE TABLE order_moves (
    seq        bigint GENERATED ALWAYS AS IDENTITY,
    order_id   uuid NOT NULL,
    from_state text,
    to_state   text NOT NULL,
    reason     text,
    actor      text NOT NULL,
    at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX order_moves_order ON order_moves (order_id);

-- The caller's name for one intent, scoped to the customer, with the answer that was given.
-- Partitioned by hash of the customer: a unique key can't span partitions by time.
CREATE TABLE idempotency_keys (
    customer_id uuid NOT NULL,
    key         text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint bytea NOT NULL,
    subject     uuid NOT NULL,
    answer      bytea NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (customer_id, key)
) PARTITION BY HASH (customer_id);
DO $$
BEGIN
    FOR part IN 0..7 LOOP
        EXECUTE format('CREATE TABLE idempotency_keys_%s PARTITION OF idempotency_keys
                        FOR VALUES WITH (MODULUS 8, REMAINDER %s)', part, part);
        EXECUTE format('CREATE INDEX idempotency_keys_%s_age ON idempotency_keys_%s USING brin (created_at)', part, part);
    END LOOP;
END $$;
