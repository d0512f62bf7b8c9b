-- Files of products and stock, kept until they have been worked off line by line, and what came of them.

-- The mark (how far it was read) moves in the transaction that does what the lines say, so that no line is done twice.
CREATE TABLE imports (
    id             uuid PRIMARY KEY,
    kind           text NOT NULL CHECK (kind IN ('products', 'stock')),
    format         text NOT NULL CHECK (format IN ('csv', 'ndjson')),
    -- Of CSV: the header. NDJSON has none.
    columns        text[] NOT NULL,
    digest         bytea NOT NULL,
    key            text CHECK (length(key) BETWEEN 1 AND 255),
    actor          text NOT NULL,
    correlation_id text NOT NULL,
    state          text NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'RUNNING', 'COMPLETED', 'CANCELLED')),
    bytes          bigint NOT NULL,
    lines          bigint NOT NULL,
    bytes_read     bigint NOT NULL CHECK (bytes_read BETWEEN 0 AND bytes),
    lines_read     bigint NOT NULL CHECK (lines_read BETWEEN 0 AND lines),
    created        bigint NOT NULL DEFAULT 0,
    changed        bigint NOT NULL DEFAULT 0,
    unchanged      bigint NOT NULL DEFAULT 0,
    rejected       bigint NOT NULL DEFAULT 0,
    created_at     timestamptz NOT NULL DEFAULT now(),
    ended_at       timestamptz,
    CHECK ((state IN ('COMPLETED', 'CANCELLED')) = (ended_at IS NOT NULL)),
    CHECK (state <> 'COMPLETED' OR bytes_read = bytes)
) WITH (fillfactor = 70);
-- The same file is the same import; under a key it is whatever the caller calls it.
CREATE UNIQUE INDEX imports_of_a_file ON imports (kind, format, digest) WHERE key IS NULL;
CREATE UNIQUE INDEX imports_of_a_key ON imports (actor, key) WHERE key IS NOT NULL;
CREATE INDEX imports_open ON imports (id) WHERE ended_at IS NULL;

-- The file, in pieces of one size; gone with the end of the import.
CREATE TABLE import_pieces (
    import_id uuid NOT NULL REFERENCES imports ON DELETE CASCADE,
    number    integer NOT NULL,
    content   bytea NOT NULL,
    PRIMARY KEY (import_id, number)
);

CREATE TABLE import_rejections (
    import_id uuid NOT NULL REFERENCES imports ON DELETE CASCADE,
    line      bigint NOT NULL,
    text      text NOT NULL,
    field     text NOT NULL,
    code      text NOT NULL,
    message   text NOT NULL,
    PRIMARY KEY (import_id, line)
);
