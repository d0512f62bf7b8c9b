-- Acts on many sagas or dead letters at once, and messages that are put right before they are sent round again.

-- One act of an operator on all that a filter showed. The relay works it off in the order of the items; `done`, `refused` and
-- `failed` together are the mark of how far it is.
CREATE TABLE bulk_acts (
    id           uuid PRIMARY KEY,
    verb         text NOT NULL CHECK (verb IN ('retry', 'skip', 'compensate', 'resolve', 'redrive')),
    -- As it was asked: {"of": "orders" | "stuck" | "letters", and each field that was set}.
    filter       jsonb NOT NULL,
    actor        text NOT NULL,
    reason       text NOT NULL,
    state        text NOT NULL DEFAULT 'RUNNING' CHECK (state IN ('RUNNING', 'STOPPED', 'ENDED')),
    items        integer NOT NULL CHECK (items > 0),
    done         integer NOT NULL DEFAULT 0 CHECK (done >= 0),
    refused      integer NOT NULL DEFAULT 0 CHECK (refused >= 0),
    failed       integer NOT NULL DEFAULT 0 CHECK (failed >= 0),
    -- Its pace: the next piece is not due before.
    due_at       timestamptz NOT NULL DEFAULT now(),
    is_held_back boolean NOT NULL DEFAULT false,
    created_at   timestamptz NOT NULL DEFAULT now(),
    ended_at     timestamptz,
    CHECK (done + refused + failed <= items),
    CHECK ((state = 'ENDED') = (ended_at IS NOT NULL)),
    CHECK (state <> 'ENDED' OR done + refused + failed = items)
) WITH (fillfactor = 70);
CREATE INDEX bulk_acts_open ON bulk_acts (id) WHERE state <> 'ENDED';

-- What matched when it was confirmed, oldest first: nothing else is ever acted on. The outcome is written in the transaction
-- of the act.
CREATE TABLE bulk_items (
    bulk_id   uuid NOT NULL REFERENCES bulk_acts,
    position  integer NOT NULL,
    saga_id   uuid,
    letter_id uuid,
    kind      text,
    subject   uuid,
    -- Where its saga stood when it was shown: one that has moved on since is refused.
    stood     text NOT NULL,
    outcome   text CHECK (outcome IN ('done', 'refused', 'failed')),
    -- Where it stands after the act; why it was not done.
    stands    text,
    said      text,
    acted_at  timestamptz,
    PRIMARY KEY (bulk_id, position),
    CHECK ((outcome IS NULL) = (acted_at IS NULL)),
    CHECK (saga_id IS NOT NULL OR letter_id IS NOT NULL)
) WITH (fillfactor = 70);
CREATE INDEX bulk_items_not_done ON bulk_items (bulk_id, position) WHERE outcome <> 'done';

-- A message that its provider would not take, put right by an operator. Append-only: `before` is what it was, so that the
-- message as it was stored first is never lost.
CREATE TABLE message_corrections (
    id              uuid PRIMARY KEY,
    notification_id uuid NOT NULL REFERENCES notifications,
    letter_id       uuid NOT NULL,
    before          jsonb NOT NULL,
    after           jsonb NOT NULL,
    actor           text NOT NULL,
    reason          text NOT NULL,
    at              timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX message_corrections_of ON message_corrections (notification_id, id);
