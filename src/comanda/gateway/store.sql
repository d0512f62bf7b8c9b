-- One row for each key, whatever became of it, and one line for each movement of money. Batches come in as one JSON
-- array, so that a batch is one call of SQLite whatever its size.

-- name: schema
CREATE TABLE IF NOT EXISTS charges (
    key TEXT PRIMARY KEY,
    status TEXT NOT NULL CHECK (status IN ('open', 'captured', 'declined', 'voided')),
    id TEXT,
    order_id TEXT,
    amount INTEGER NOT NULL,
    currency TEXT,
    code TEXT,
    captured_amount INTEGER NOT NULL CHECK (captured_amount BETWEEN 0 AND amount),
    refunded_amount INTEGER NOT NULL CHECK (refunded_amount BETWEEN 0 AND captured_amount),
    captured_at TEXT,
    attempts INTEGER NOT NULL,
    CHECK (status <> 'voided' OR refunded_amount = captured_amount)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS refunds (
    key TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    charge_key TEXT NOT NULL REFERENCES charges (key),
    amount INTEGER NOT NULL CHECK (amount > 0)
) WITHOUT ROWID;

-- Only ever appended to, so seq has no gaps.
CREATE TABLE IF NOT EXISTS ledger (
    seq INTEGER PRIMARY KEY,
    type TEXT NOT NULL CHECK (type IN ('capture', 'refund')),
    order_id TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    currency TEXT NOT NULL,
    key TEXT NOT NULL,
    at TEXT NOT NULL
);

-- name: load_charges
SELECT key, status, id, order_id, amount, currency, code, captured_amount, refunded_amount, captured_at, attempts
FROM charges
WHERE key IN (SELECT value FROM json_each(?));

-- name: load_refunds
SELECT key, id, charge_key, amount
FROM refunds
WHERE key IN (SELECT value FROM json_each(?));

-- name: save_charges
INSERT INTO charges (
    key, status, id, order_id, amount, currency, code, captured_amount, refunded_amount, captured_at, attempts
)
SELECT
    json_extract(value, '$.key'),
    json_extract(value, '$.status'),
    json_extract(value, '$.id'),
    json_extract(value, '$.orderId'),
    json_extract(value, '$.amount'),
    json_extract(value, '$.currency'),
    json_extract(value, '$.code'),
    json_extract(value, '$.capturedAmount'),
    json_extract(value, '$.refundedAmount'),
    json_extract(value, '$.capturedAt'),
    json_extract(value, '$.attempts')
FROM json_each(?)
WHERE true
ON CONFLICT (key) DO UPDATE SET
    status = excluded.status,
    id = excluded.id,
    order_id = excluded.order_id,
    amount = excluded.amount,
    currency = excluded.currency,
    code = excluded.code,
    captured_amount = excluded.captured_amount,
    refunded_amount = excluded.refunded_amount,
    captured_at = excluded.captured_at,
    attempts = excluded.attempts;

-- name: save_refunds
INSERT INTO refunds (key, id, charge_key, amount)
SELECT
    json_extract(value, '$.key'),
    json_extract(value, '$.id'),
    json_extract(value, '$.chargeKey'),
    json_extract(value, '$.amount')
FROM json_each(?);

-- name: append_lines
INSERT INTO ledger (type, order_id, amount, currency, key, at)
SELECT
    json_extract(value, '$.type'),
    json_extract(value, '$.orderId'),
    json_extract(value, '$.amount'),
    json_extract(value, '$.currency'),
    json_extract(value, '$.key'),
    json_extract(value, '$.at')
FROM json_each(?);

-- name: read_lines
SELECT seq, type, order_id, amount, currency, key, at
FROM ledger
WHERE seq > ? AND seq <= ?
ORDER BY seq
LIMIT ?;

-- name: last_line
SELECT coalesce(max(seq), 0) FROM ledger;
