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
