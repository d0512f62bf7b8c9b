-- Addresses that somebody has shown to be theirs, passwords that are forgotten, and how often anybody may try.

ALTER TABLE accounts ADD COLUMN email_verified_at timestamptz;

-- What a mail carries: good once, for one purpose, until it expires. It is derived from the id and SECRET_KEY when the
-- mail goes out; here stands its hash alone.
CREATE TABLE account_tokens (
    id         uuid PRIMARY KEY,
    token_hash bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    account_id uuid NOT NULL REFERENCES accounts,
    purpose    text NOT NULL CHECK (purpose IN ('verify_email', 'reset_password')),
    expires_at timestamptz NOT NULL,
    used_at    timestamptz,
    voided_at  timestamptz,
    CHECK (used_at IS NULL OR voided_at IS NULL)
);
CREATE INDEX account_tokens_account ON account_tokens (account_id);
CREATE INDEX account_tokens_expiry ON account_tokens (expires_at);

-- Somebody says that they forgot the password of this address. The API writes the same row whether there is such an
-- account or not; the relay finds out, and deletes it.
CREATE TABLE reset_requests (
    id             uuid PRIMARY KEY,
    email          text NOT NULL,
    correlation_id text NOT NULL
);

-- Tries of the window that began with the first of them. Who has used them up may not try before free_at. The key is a
-- hash of an e-mail, of an address, or of both.
CREATE TABLE attempts (
    scope   text NOT NULL,
    key     bytea NOT NULL CHECK (octet_length(key) = 32),
    tries   integer NOT NULL CHECK (tries >= 0),
    free_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    PRIMARY KEY (scope, key)
) WITH (fillfactor = 80);
CREATE INDEX attempts_end ON attempts (ends_at);

-- Where somebody signed in: what others guess elsewhere holds nobody up there. The key is a hash of address and e-mail.
CREATE TABLE familiar_addresses (
    key     bytea PRIMARY KEY CHECK (octet_length(key) = 32),
    ends_at timestamptz NOT NULL
);
CREATE INDEX familiar_addresses_end ON familiar_addresses (ends_at);

-- Messages about an account are of no order; their occasion is the token. The rows that are there satisfy what is wider.
ALTER TABLE notifications ALTER COLUMN order_id DROP NOT NULL;
ALTER TABLE notifications DROP CONSTRAINT notifications_kind_check;
ALTER TABLE notifications ADD CONSTRAINT notifications_kind_check CHECK (kind IN (
    'order_confirmation', 'payment_failure', 'order_cancellation', 'order_shipped', 'order_refund',
    'email_verification', 'password_reset')) NOT VALID;
ALTER TABLE notifications ADD CONSTRAINT notifications_are_about_something CHECK (
    (order_id IS NULL) = (kind IN ('email_verification', 'password_reset'))) NOT VALID;
