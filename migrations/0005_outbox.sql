-- Outbox: events, committed with the change that caused them. Nothing marks a row: each sink has a cursor.
--
-- A cursor on ids alone would lose events: a transaction that began earlier may commit later. So rows carry the
-- transaction that wrote them, and a reader goes no further than the oldest transaction still open.

CREATE TABLE outbox (
    id             uuid NOT NULL,
    xid            xid8 NOT NULL DEFAULT pg_current_xact_id(),
    type           text NOT NULL,
    version        smallint NOT NULL DEFAULT 1,
    aggregate_type text NOT NULL,
    aggregate_id   uuid NOT NULL,
    correlation_id text,
    causation_id   uuid,
    payload        jsonb NOT NULL,
    at             timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (id);
CREATE INDEX outbox_position ON outbox (xid, id);
CREATE INDEX outbox_aggregate ON outbox (aggregate_id);
CREATE TABLE outbox_rest PARTITION OF outbox DEFAULT;

CREATE TABLE outbox_cursors (
    sink       text PRIMARY KEY,
    xid        xid8 NOT NULL DEFAULT '0',
    id         uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    published  bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO outbox_cursors (sink) VALUES ('events');

-- Weekly partitions of what grows for ever, made ahead; old ones are dropped, never deleted row by row.
CREATE FUNCTION ensure_partitions(ahead integer DEFAULT 8) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    week timestamptz;
    made integer := 0;
    name text;
BEGIN
    FOR week IN SELECT generate_series(date_trunc('week', now(), 'UTC') - interval '1 week',
                                       now() + ahead * interval '1 week', interval '1 week') LOOP
        name := 'outbox_' || to_char(week AT TIME ZONE 'UTC', 'IYYY"w"IW');
        IF to_regclass(name) IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF outbox FOR VALUES FROM (%L) TO (%L)',
                           name, uuid_floor(week), uuid_floor(week + interval '1 week'));
            made := made + 1;
        END IF;
        name := 'saga_attempts_' || to_char(week AT TIME ZONE 'UTC', 'IYYY"w"IW');
        IF to_regclass(name) IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF saga_attempts FOR VALUES FROM (%L) TO (%L)',
                           name, week, week + interval '1 week');
            made := made + 1;
        END IF;
    END LOOP;
    RETURN made;
END $$;

-- Drops the partitions that ended more than so many days ago; the names of what went.
CREATE FUNCTION drop_partitions(older_than_days integer) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT child.relname FROM pg_inherits
          JOIN pg_class child ON child.oid = inhrelid JOIN pg_class parent ON parent.oid = inhparent
         WHERE parent.relname IN ('outbox', 'saga_attempts') AND child.relname ~ '_\d{4}w\d\d$'
           AND to_date(right(child.relname, 7), 'IYYY"w"IW') + 7 < current_date - older_than_days
    LOOP
        EXECUTE format('DROP TABLE %I', name);
        RETURN NEXT name;
    END LOOP;
END $$;
