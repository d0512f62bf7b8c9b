-- Partitions are made and dropped without stopping the shop, and who took a webhook last is found by an index.
--
-- Making or dropping one takes ACCESS EXCLUSIVE on its parent. Behind a long reader (pg_dump, the doctor) that is waited
-- for, and whoever writes an event waits behind it: so each table is tried for a moment, in a transaction of its own, and
-- left for the next time. There are weeks of time. Weeks are UTC's, wherever the server stands: a week that ends an hour
-- late overlaps with the next.

-- The weekly partitions that are not there, from last week's to those of so many weeks ahead. `is_held`: the rest has rows
-- of that week, so it can't be made.
CREATE FUNCTION missing_partitions(ahead integer DEFAULT 8)
    RETURNS TABLE (parent text, week timestamptz, name text, is_held boolean)
    LANGUAGE sql STABLE SET timezone = 'UTC' AS $$
    SELECT parents.parent, weeks.week, names.name,
           CASE parents.parent
               WHEN 'outbox' THEN EXISTS (SELECT FROM outbox_rest
                   WHERE id >= uuid_floor(weeks.week) AND id < uuid_floor(weeks.week + interval '1 week'))
               ELSE EXISTS (SELECT FROM saga_attempts_rest
                   WHERE at >= weeks.week AND at < weeks.week + interval '1 week') END
      FROM generate_series(date_trunc('week', now(), 'UTC') - interval '1 week', now() + ahead * interval '1 week',
                           interval '1 week') AS weeks (week)
     CROSS JOIN (VALUES ('outbox'), ('saga_attempts')) AS parents (parent)
     CROSS JOIN LATERAL (SELECT parents.parent || '_' || to_char(weeks.week, 'IYYY"w"IW')) AS names (name)
     WHERE to_regclass(names.name) IS NULL
     ORDER BY weeks.week, parents.parent
$$;

-- Makes one; 'made', 'awaited' (somebody reads the parent: another time) or 'held' (by the rest).
CREATE FUNCTION make_partition(parent text, week timestamptz) RETURNS text
    LANGUAGE plpgsql SET timezone = 'UTC' SET lock_timeout = '100ms' AS $$
DECLARE
    following timestamptz := week + interval '1 week';
BEGIN
    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                   parent || '_' || to_char(week, 'IYYY"w"IW'), parent,
                   CASE parent WHEN 'outbox' THEN uuid_floor(week)::text ELSE week::text END,
                   CASE parent WHEN 'outbox' THEN uuid_floor(following)::text ELSE following::text END);
    RETURN 'made';
EXCEPTION
    WHEN lock_not_available THEN RETURN 'awaited';
    WHEN check_violation THEN RETURN 'held';
    WHEN duplicate_table OR unique_violation THEN RETURN 'made';  -- another relay was faster
END $$;

-- The partitions that ended more than so many days ago. A week of the outbox that holds an event which a sink has not passed
-- is none of them, nor are those after it: the doctor counts events from the oldest one on.
CREATE FUNCTION old_partitions(older_than_days integer) RETURNS TABLE (parent text, name text) LANGUAGE plpgsql AS $$
DECLARE
    is_awaited boolean := false;
BEGIN
    FOR parent, name IN
        SELECT over.relname, child.relname FROM pg_inherits
          JOIN pg_class AS child ON child.oid = inhrelid JOIN pg_class AS over ON over.oid = inhparent
         WHERE over.relname IN ('outbox', 'saga_attempts') AND child.relname ~ '_\d{4}w\d\d$'
           AND to_date(right(child.relname, 7), 'IYYY"w"IW') + 7 < current_date - older_than_days
         ORDER BY child.relname
    LOOP
        IF parent = 'outbox' THEN
            IF NOT is_awaited THEN
                EXECUTE format('SELECT EXISTS (SELECT FROM outbox_cursors AS cursor
                                  JOIN %I AS event ON (event.xid, event.id) > (cursor.xid, cursor.id))', name)
                   INTO is_awaited;
            END IF;
            CONTINUE WHEN is_awaited;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- Drops one; 'dropped' or 'awaited' (somebody reads it, or its parent: another time).
CREATE FUNCTION drop_partition(name text) RETURNS text LANGUAGE plpgsql SET lock_timeout = '100ms' AS $$
BEGIN
    EXECUTE format('DROP TABLE %I', name);
    RETURN 'dropped';
EXCEPTION
    WHEN lock_not_available THEN RETURN 'awaited';
    WHEN undefined_table THEN RETURN 'dropped';  -- another relay was faster
END $$;

-- As the releases before this one call them, which may run beside it for a while.
CREATE OR REPLACE FUNCTION ensure_partitions(ahead integer DEFAULT 8) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    missing record;
    made integer := 0;
BEGIN
    FOR missing IN SELECT * FROM missing_partitions(ahead) WHERE NOT is_held LOOP
        EXIT WHEN make_partition(missing.parent, missing.week) = 'awaited';
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;

CREATE OR REPLACE FUNCTION drop_partitions(older_than_days integer) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    old text;
BEGIN
    FOR old IN SELECT name FROM old_partitions(older_than_days) LOOP
        EXIT WHEN drop_partition(old) = 'awaited';
        RETURN NEXT old;
    END LOOP;
END $$;

-- Whether an endpoint took anything after what it did not take, asked when one is given up on.
CREATE INDEX webhook_deliveries_taken ON webhook_deliveries (endpoint_id, id) WHERE state = 'DELIVERED';
