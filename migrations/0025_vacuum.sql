-- What keeps the database small: weeks that nobody waits for go, and tables that change often are cleaned before they grow.

-- Drops the partitions that ended more than so many days ago; the names of what went. A week of the outbox that holds an
-- event which a sink has not passed stays, and so do those after it: the doctor counts events from the oldest one on.
CREATE OR REPLACE FUNCTION drop_partitions(older_than_days integer) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    week record;
    is_awaited boolean := false;
BEGIN
    FOR week IN
        SELECT child.relname AS name, parent.relname = 'outbox' AS has_events FROM pg_inherits
          JOIN pg_class child ON child.oid = inhrelid JOIN pg_class parent ON parent.oid = inhparent
         WHERE parent.relname IN ('outbox', 'saga_attempts') AND child.relname ~ '_\d{4}w\d\d$'
           AND to_date(right(child.relname, 7), 'IYYY"w"IW') + 7 < current_date - older_than_days
         ORDER BY child.relname
    LOOP
        IF week.has_events THEN
            IF NOT is_awaited THEN
                EXECUTE format('SELECT EXISTS (SELECT FROM outbox_cursors AS cursor
                                  JOIN %I AS event ON (event.xid, event.id) > (cursor.xid, cursor.id))', week.name)
                   INTO is_awaited;
            END IF;
            CONTINUE WHEN is_awaited;
        END IF;
        EXECUTE format('DROP TABLE %I', week.name);
        RETURN NEXT week.name;
    END LOOP;
END $$;

-- Autovacuum waits until a fifth of a table is dead: of ten million orders, two million rows that each read passes by. What is
-- updated or deleted with every order is cleaned at a fiftieth, as sagas are; its pages are marked as visible to all when a
-- tenth has come in, so that lists are read from indexes alone.
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT unnest(ARRAY['orders', 'payments', 'reservations', 'notifications', 'refunds', 'webhook_deliveries'])
        UNION ALL SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'idempotency_keys'::regclass
    LOOP
        EXECUTE format('ALTER TABLE %I SET (autovacuum_vacuum_scale_factor = 0.02,
                                            autovacuum_vacuum_insert_scale_factor = 0.1)', name);
    END LOOP;
    -- Few rows, each of them updated over and over: cleaned after some hundreds, without a pause, which takes milliseconds.
    FOREACH name IN ARRAY ARRAY['stock', 'outbox_cursors', 'breakers', 'attempts', 'queue_minutes', 'objective_hours'] LOOP
        EXECUTE format('ALTER TABLE %I SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200,
                                            autovacuum_vacuum_cost_delay = 0)', name);
    END LOOP;
END $$;
