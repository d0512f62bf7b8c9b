-- The operators' console: who is signed in there, dead letters that are alike, the newest messages.

-- A cookie's hash, until it ends or is ended. What it may do is asked of the account at each request.
CREATE TABLE console_sessions (
    token_hash bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    account_id uuid NOT NULL REFERENCES accounts,
    expires_at timestamptz NOT NULL
);
CREATE INDEX console_sessions_expiry ON console_sessions (expires_at);
CREATE INDEX console_sessions_account ON console_sessions (account_id);

-- Letters with one fingerprint failed at one place with one error, but for the numbers and ids in it.
ALTER TABLE dead_letters ADD COLUMN fingerprint text NOT NULL GENERATED ALWAYS AS (
    left(md5(queue || ' ' || step || ' ' || direction || ' '
             || regexp_replace(error, '[0-9a-f]{8}-[0-9a-f-]{27}|[0-9]+', '#', 'g')), 12)) STORED;
CREATE INDEX dead_letters_alike ON dead_letters (fingerprint, id) WHERE redriven_at IS NULL;

CREATE INDEX mailbox_newest ON mailbox (sent_at DESC, key);
