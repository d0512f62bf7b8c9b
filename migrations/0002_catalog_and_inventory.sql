-- Products, and the stock of each at each location.
-- Money is in integer minor units (cents) beside its currency.

CREATE TABLE products (
    id               uuid PRIMARY KEY,
    sku              text NOT NULL CHECK (length(sku) BETWEEN 1 AND 100),
    name             text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    description      text,
    brand            text,
    tags             text[] NOT NULL DEFAULT '{}',
    images           jsonb NOT NULL DEFAULT '[]',
    attributes       jsonb NOT NULL DEFAULT '{}',
    category_id      uuid,
    weight           numeric(12, 3) CHECK (weight >= 0 AND weight < 'NaN'),
    price            bigint NOT NULL CHECK (price >= 0),
    currency         text NOT NULL DEFAULT 'USD' CHECK (currency ~ '^[A-Z]{3}$'),
    cost_price       bigint CHECK (cost_price >= 0),
    compare_at_price bigint CHECK (compare_at_price >= 0),
    track_inventory  boolean NOT NULL DEFAULT true,
    minimum_stock    integer NOT NULL DEFAULT 0 CHECK (minimum_stock >= 0),
    is_active        boolean NOT NULL DEFAULT true,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    deleted_at       timestamptz
);
CREATE UNIQUE INDEX products_sku ON products (sku) WHERE deleted_at IS NULL;

-- on_hand = what lies there; held = the part of it that reservations hold; free = on_hand - held.
-- The CHECK is the last word on overselling: no code path can pass it.
CREATE TABLE stock (
    product_id       uuid NOT NULL REFERENCES products,
    location         text NOT NULL DEFAULT 'MAIN' CHECK (length(location) BETWEEN 1 AND 50),
    on_hand          bigint NOT NULL CHECK (on_hand >= 0),
    held             bigint NOT NULL DEFAULT 0,
    minimum_stock    integer NOT NULL DEFAULT 0 CHECK (minimum_stock >= 0),
    maximum_stock    integer CHECK (maximum_stock >= 0),
    reorder_point    integer CHECK (reorder_point >= 0),
    reorder_quantity integer CHECK (reorder_quantity >= 0),
    notes            text,
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (product_id, location),
    CONSTRAINT stock_is_not_oversold CHECK (held >= 0 AND held <= on_hand)
) WITH (fillfactor = 50);

-- Stock held for an order until it expires. The lines say where it lies.
-- Expiry, release and confirmation all update WHERE state = 'ACTIVE': exactly one of them wins.
CREATE TABLE reservations (
    id         uuid PRIMARY KEY,
    order_id   uuid NOT NULL,
    state      text NOT NULL DEFAULT 'ACTIVE' CHECK (state IN ('ACTIVE', 'RELEASED', 'FULFILLED', 'EXPIRED')),
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at   timestamptz,
    CHECK ((state = 'ACTIVE') = (ended_at IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX reservations_order ON reservations (order_id);
CREATE UNIQUE INDEX reservations_one_for_an_order ON reservations (order_id) WHERE state IN ('ACTIVE', 'FULFILLED');
CREATE INDEX reservations_expiry ON reservations (expires_at) WHERE state = 'ACTIVE';

CREATE TABLE reservation_lines (
    reservation_id uuid NOT NULL,
    product_id     uuid NOT NULL,
    location       text NOT NULL,
    quantity       integer NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (reservation_id, product_id, location)
);

-- The append-only ledger of stock. Its sums are the stock, always: `comanda doctor` compares them.
CREATE TABLE movements (
    id            uuid PRIMARY KEY,
    product_id    uuid NOT NULL,
    location      text NOT NULL,
    kind          text NOT NULL CHECK (kind IN (
        'RESTOCK', 'SALE', 'RETURN', 'ADJUSTMENT', 'RESERVATION', 'RELEASE_RESERVATION', 'DAMAGE', 'THEFT',
        'TRANSFER_IN', 'TRANSFER_OUT', 'EXPIRED', 'QUALITY_CONTROL', 'MANUAL_CORRECTION', 'SYSTEM_CORRECTION')),
    on_hand_delta bigint NOT NULL,
    held_delta    bigint NOT NULL,
    order_id      uuid,
    actor         text NOT NULL,
    reason        text,
    at            timestamptz NOT NULL DEFAULT now(),
    CHECK (on_hand_delta <> 0 OR held_delta <> 0)
);
CREATE INDEX movements_product ON movements (product_id, location);
CREATE INDEX movements_order ON movements (order_id) WHERE order_id IS NOT NULL;
