-- Accounts: who may sign in, and as what.
--
-- Ids are UUIDv7, made by the application: they sort by time, so a primary key is also the order of arrival.

CREATE FUNCTION uuid_floor(moment timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;
COMMENT ON FUNCTION uuid_floor IS 'The smallest UUIDv7 of that millisecond: turns a time into a bound on ids.';

-- PostgreSQL 18 has a function of its own; 15 to 17 have not.
DO $$
BEGIN
    IF to_regprocedure('uuidv7()') IS NOT NULL THEN
        CREATE FUNCTION uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE RETURN uuidv7();
    ELSE
        CREATE FUNCTION uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE
            RETURN encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
                PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
                52, 1), 53, 1), 'hex')::uuid;
    END IF;
END $$;
COMMENT ON FUNCTION uuid_v7 IS 'For rows that a statement makes by itself.';

CREATE TABLE accounts (
    id            uuid PRIMARY KEY,
    email         text NOT NULL CHECK (length(email) BETWEEN 3 AND 254),
    password_hash text NOT NULL,
    first_name    text NOT NULL CHECK (length(first_name) <= 100),
    last_name     text NOT NULL CHECK (length(last_name) <= 100),
    phone_number  text,
    language      text NOT NULL DEFAULT 'en' CHECK (language IN ('en', 'es')),
    role          text NOT NULL DEFAULT 'customer' CHECK (role IN ('admin', 'operator', 'viewer', 'customer')),
    is_active     boolean NOT NULL DEFAULT true,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    deleted_at    timestamptz
);
-- One account for an address, however it is written.
CREATE UNIQUE INDEX accounts_email ON accounts (lower(email));

-- A refresh token is good for one use. Using it twice revokes its whole family (every token that came of one login).
CREATE TABLE refresh_tokens (
    token_hash bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    account_id uuid NOT NULL REFERENCES accounts,
    family_id  uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz,
    revoked_at timestamptz
);
CREATE INDEX refresh_tokens_family ON refresh_tokens (family_id);
CREATE INDEX refresh_tokens_account ON refresh_tokens (account_id);
CREATE INDEX refresh_tokens_expiry ON refresh_tokens (expires_at);
