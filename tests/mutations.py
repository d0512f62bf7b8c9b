"""What each mutant changes in the code, and which tests have to notice it: few and fast ones."""

from dataclasses import dataclass

ORDER = "tests/integration/test_order_saga.py"
PLACING = "tests/integration/test_place_order.py"
RACES = "tests/integration/test_races.py"
STOCK = "tests/integration/test_stock.py"
ENGINE = "tests/integration/test_saga_engine.py"
CALLS = "tests/integration/test_saga_calls.py"
VERBS = "tests/integration/test_saga_verbs.py"
OUTBOX = "tests/integration/test_outbox.py"
WORKER = "tests/integration/test_worker.py"
RAMP = "tests/integration/test_gateway_ramp.py"
BREAKER = "tests/unit/test_breaker.py"
AFTER = "tests/integration/test_after_order.py"
AFTER_RULES = "tests/unit/test_after_order_rules.py"
WEBHOOKS = "tests/acceptance/test_webhooks.py"
FILES = "tests/integration/test_imports.py"
WATCHING = "tests/acceptance/test_watching.py"
HANGING = "tests/integration/test_webhooks.py"
FEED = "tests/integration/test_feed.py"
REPLICA = "tests/integration/test_replica.py"
QUOTAS = "tests/unit/test_limits.py"
RATES = "tests/unit/test_rate_limits.py"
DOORS = "tests/integration/test_console_access.py"
PAGES = "tests/integration/test_console_pages.py"
RECONCILE = "tests/integration/test_reconcile.py"
CAUSES = "tests/unit/test_causes.py"
JOBS = "tests/integration/test_console_jobs.py"
BULK = "tests/integration/test_bulk.py"
SCALE = "tests/integration/test_console_scale.py"
ALLOCATION = "tests/unit/test_allocation.py"
TRANSITIONS = "tests/unit/test_transitions.py"
# A race that a mutant wins only now and then.
MANY_SEEDS = "--seeds=12"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: `text`, which stands once in `file` (below src/comanda), becomes `instead`; one of the `killers`
    (what pytest is given) must fail."""

    name: str
    file: str
    text: str
    instead: str
    killers: tuple[str, ...]


def _of(file: str, *tests: str) -> tuple[str, ...]:
    return tuple(f"{file}::{test}" for test in tests)


COMPENSATIONS = [
    Mutant(
        "nobody releases what was reserved",
        "checkout/order_saga.py",
        "compensate=inventory.release",
        "compensate=nothing",
        _of(ORDER, "test_a_decline_is_final_and_undoes_everything"),
    ),
    Mutant(
        "nobody gives the money back",
        "checkout/order_saga.py",
        "charge, compensate=refund,",
        "charge, compensate=nothing,",
        _of(ORDER, "test_a_confirmation_that_comes_too_late_gives_the_money_back"),
    ),
    Mutant(
        "nobody takes back what was sold",
        "checkout/order_saga.py",
        "compensate=inventory.restock",
        "compensate=nothing",
        _of(ORDER, "test_an_order_that_can_not_be_completed_takes_everything_back"),
    ),
    Mutant(
        "what was held is sold, and held on",
        "proof/repair.sql",
        "CASE state WHEN 'ACTIVE' THEN quantity ELSE 0 END AS held",
        "0 AS held",
        _of("tests/integration/test_repair_skipped.py", "test_what_an_operator_skipped_is_mended_by_what_is_proposed"),
    ),
    Mutant(
        "rows of --json have columns that nobody documented",
        "cli/terminal.py",
        "names = row if line is None else line.__struct_fields__",
        "names = row",
        _of("tests/unit/test_cli_reference.py", "test_only_the_fields_of_a_shape_are_printed"),
    ),
    Mutant(
        "nobody retracts the confirmation",
        "checkout/order_saga.py",
        "compensate=notifications.retract",
        "compensate=nothing",
        _of(ORDER, "test_an_order_that_can_not_be_completed_takes_everything_back"),
    ),
    Mutant(
        "the customer is not told of the cancellation",
        "checkout/order_saga.py",
        "return await notifications.cancelled(tx, order_ids, reasons)",
        "return []",
        _of(ORDER, "test_a_decline_is_final_and_undoes_everything"),
    ),
    Mutant(
        "undoing skips a step",
        "saga/transitions.py",
        "saga.position(step.name) - 1, at, at.reason",
        "saga.position(step.name) - 2, at, at.reason",
        (TRANSITIONS,),
    ),
    Mutant(
        "a call that nobody answered is not undone",
        "saga/transitions.py",
        "(0 if step.is_remote else 1)",
        "1",
        (TRANSITIONS,),
    ),
    Mutant(
        "a refusal after such a call does not undo it",
        "saga/transitions.py",
        "(0 if is_unsure else 1)",
        "1",
        _of(ORDER, "test_a_reservation_lost_between_two_attempts_undoes_the_charge_that_nobody_answered"),
    ),
    Mutant(
        "an exhausted compensation is passed over",
        "saga/transitions.py",
        "            return _stuck(step, at, at.reason)\n    raise",
        '            return _undo(saga, saga.position(step.name) - 1, at, at.reason or "", "done")\n    raise',
        (TRANSITIONS,),
    ),
]

SAGA = [
    Mutant(
        "nobody looks at the fencing token",
        "saga/log.sql",
        "    ON sagas.id = mine.id AND sagas.token = mine.token\n WHERE lease_until IS NOT NULL AND state",
        "    ON sagas.id = mine.id\n WHERE lease_until IS NOT NULL AND state",
        _of(CALLS, "test_a_late_answer_is_refused_by_the_fencing_token"),
    ),
    Mutant(
        "nobody looks whether the lease was ended",
        "saga/log.sql",
        " WHERE lease_until IS NOT NULL AND state IN ('RUNNING', 'COMPENSATING')\n ORDER BY sagas.id",
        " WHERE state IN ('RUNNING', 'COMPENSATING')\n ORDER BY sagas.id",
        _of(VERBS, "test_an_answer_that_comes_after_an_operator_has_decided_is_refused"),
    ),
    Mutant(
        "a lease does not raise the token",
        "saga/log.sql",
        "CASE WHEN there.is_leased THEN 1 ELSE 0 END",
        "0",
        _of(CALLS, "test_the_intent_is_committed_before_the_call_and_nothing_is_open_during_it"),
    ),
    Mutant(
        "an order that waits for an operator has failed",
        "saga/settling.py",
        'one.direction, "stuck", move.reason',
        'one.direction, "exhausted", move.reason',
        _of(ORDER, "test_an_order_whose_charge_took_its_workers_away_is_as_it_was_until_an_operator_decides"),
    ),
    Mutant(
        "nobody looks after orphans while a queue is busy",
        "saga/rescue.py",
        "if one.is_orphan or one.queue not in busy",
        "if one.queue not in busy",
        _of(WORKER, "test_what_a_dead_worker_had_in_hand_is_offered_however_busy_its_queue_is"),
    ),
    Mutant(
        "a paused queue goes on with what was read",
        "worker.py",
        "while ids and not stop.is_set() and not self._is_paused(queue):",
        "while ids and not stop.is_set():",
        _of(WORKER, "test_a_queue_that_is_paused_begins_nothing_more_of_what_a_worker_has_in_hand"),
    ),
    Mutant(
        "a claim does not lock",
        "saga/log.sql",
        " ORDER BY id\n   FOR UPDATE SKIP LOCKED;",
        " ORDER BY id;",
        _of(ENGINE, "test_a_claim_takes_what_nobody_holds_and_waits_for_nobody"),
    ),
    Mutant(
        "a claim by hints waits for others",
        "saga/log.sql",
        " ORDER BY id\n   FOR UPDATE SKIP LOCKED;",
        " ORDER BY id\n   FOR UPDATE;",
        _of(ENGINE, "test_a_claim_takes_what_nobody_holds_and_waits_for_nobody"),
    ),
    Mutant(
        "a claim without hints waits for others",
        "saga/log.sql",
        "     ORDER BY priority, id LIMIT $2 FOR UPDATE SKIP LOCKED",
        "     ORDER BY priority, id LIMIT $2 FOR UPDATE",
        _of(ENGINE, "test_a_claim_takes_what_nobody_holds_and_waits_for_nobody"),
    ),
    Mutant(
        "the heartbeat waits for a lock",
        "saga/log.sql",
        "     WHERE lease_until IS NOT NULL ORDER BY sagas.id FOR UPDATE OF sagas SKIP LOCKED\n)",
        "     WHERE lease_until IS NOT NULL ORDER BY sagas.id FOR UPDATE OF sagas\n)",
        _of(CALLS, "test_the_heartbeat_waits_for_no_lock"),
    ),
    Mutant(
        "each attempt has a key of its own",
        "saga/batch.py",
        '    return f"{saga_id}:{step}:{direction}"',
        '    import uuid\n    return f"{saga_id}:{step}:{direction}:{uuid.uuid4()}"',
        _of(ORDER, "test_retryable_failures_are_retried_until_the_money_is_there"),
    ),
    Mutant(
        "second-hand work is not marked",
        "saga/log.sql",
        "SET claims = claims + 1, lease_until",
        "SET lease_until",
        _of(VERBS, "test_a_local_step_that_kills_its_workers_is_a_dead_letter_and_its_neighbours_go_on"),
    ),
    Mutant(
        "a mark is no lease",
        "saga/log.sql",
        "SET claims = claims + 1, lease_until = now() + $2::interval",
        "SET claims = claims + 1, lease_until = now() + 0 * $2::interval",
        _of(VERBS, "test_workers_that_look_at_the_same_moment_are_not_lost"),
    ),
    Mutant(
        "two groups lock the same in one transaction",
        "saga/engine.py",
        "if step.locks is not None and step.locks in batch.locked:",
        "if False:",
        _of(ENGINE, "test_two_groups_that_lock_the_same_never_share_a_transaction"),
    ),
    Mutant(
        "a poisoned saga takes its neighbours with it",
        "saga/engine.py",
        "return await self._one_by_one(queue, ids, marks)\n\n    async def call",
        "return Result()\n\n    async def call",
        _of(ENGINE, "test_the_neighbours_of_a_poisoned_saga_go_on_at_once"),
    ),
    Mutant(
        "messages are acknowledged before their work is committed",
        "worker.py",
        "        ids = list(dict.fromkeys(one for hint in hints for one in hint.ids or []))\n",
        "        ids = list(dict.fromkeys(one for hint in hints for one in hint.ids or []))\n"
        "        await self._streams.acknowledge(hints)\n",
        (WORKER,),
    ),
]

PAYMENTS = [
    Mutant(
        "a crowd comes back at once",
        "payments/breaker.py",
        "            await _keep(tx, standing.ramp)\n",
        "            admitted = wanted\n",
        (RAMP,),
    ),
    Mutant(
        "a charge is not voided before its refund",
        "payments/payments.py",
        "voided = await self._gateway.void(request)",
        "voided = Voided(0, 0)",
        _of(ORDER, "test_a_charge_that_arrives_after_its_undoing_captures_nothing"),
    ),
    Mutant(
        "what a void has not given back is kept",
        "payments/payments.py",
        "if voided.captured > voided.refunded:",
        "if False:",
        _of(ORDER, "test_what_a_void_does_not_give_back_is_refunded"),
    ),
    Mutant(
        "a repeat does not ask what became of the first",
        "payments/payments.py",
        "await self._gateway.find(key) if request.is_repeat else None",
        "None",
        _of(ORDER, "test_an_answer_that_never_came_is_asked_for_before_anything_is_repeated"),
    ),
    Mutant(
        "the intent is not stored before the call",
        "payments/payments.py",
        "await _intend(tx, [*suspects, *free, *called], asked",
        "await _intend(tx, [*suspects, *free], asked",
        _of(ORDER, "test_an_order_of_two_lines_is_confirmed"),
    ),
    Mutant(
        "a suspicious amount is charged",
        "payments/payments.py",
        '["total_amount"] > FRAUD_ABOVE',
        '["total_amount"] > 2 * FRAUD_ABOVE',
        _of(ORDER, "test_more_than_ten_thousand_is_refused_before_any_call"),
    ),
    Mutant(
        "everybody is a probe",
        "resilience/breaker.py",
        "return min(wanted, 1) if is_due else 0",
        "return wanted if is_due else 0",
        (BREAKER,),
    ),
    Mutant(
        "a probe does not keep others from following",
        "resilience/breaker.py",
        "replace(breaker, state=State.HALF_OPEN, probe_at=now + rule.pause)",
        "replace(breaker, state=State.HALF_OPEN)",
        (BREAKER,),
    ),
    Mutant(
        "the breaker never opens",
        "resilience/breaker.py",
        "failures >= rule.threshold",
        "False",
        (BREAKER,),
    ),
    Mutant(
        "a saga waits for the breaker's row with stock in its hands",
        "payments/breaker.sql",
        "FOR UPDATE SKIP LOCKED",
        "FOR UPDATE",
        (*_of(RACES, "test_nor_do_they_while_the_breaker_is_open_and_patience_ends"), MANY_SEEDS),
    ),
]

INVENTORY = [
    Mutant(
        "what is free is read without a lock",
        "inventory/stock.sql",
        " WHERE product_id = ANY($1::uuid[])\n ORDER BY product_id, location\n   FOR UPDATE;",
        " WHERE product_id = ANY($1::uuid[])\n ORDER BY product_id, location;",
        _of(STOCK, "test_twenty_transactions_at_once_get_what_there_is_and_no_more"),
    ),
    Mutant(
        "stock is locked for reservations in any order",
        "inventory/stock.sql",
        " WHERE product_id = ANY($1::uuid[])\n ORDER BY product_id, location\n   FOR UPDATE;",
        " WHERE product_id = ANY($1::uuid[])\n ORDER BY md5(product_id::text || pg_backend_pid())\n   FOR UPDATE;",
        _of(STOCK, "test_overlapping_baskets_from_four_connections_never_deadlock"),
    ),
    Mutant(
        "stock is locked for the end of reservations in any order",
        "inventory/stock.sql",
        "     ORDER BY product_id, location FOR UPDATE\n), moved",
        "     ORDER BY md5(product_id::text || pg_backend_pid()) FOR UPDATE\n), moved",
        (*_of(RACES, "test_two_hundred_baskets_of_the_same_products_never_deadlock"), MANY_SEEDS),
    ),
    Mutant(
        "a reservation can end twice",
        "inventory/stock.sql",
        "AND state = $2 ORDER BY id FOR UPDATE)\n   AND state = $2\n",
        "AND $2::text <> '' ORDER BY id FOR UPDATE)\n",
        _of(RACES, "test_of_expiry_confirmation_and_release_exactly_one_ends_each_reservation"),
    ),
    Mutant(
        "reservations expire before their time",
        "inventory/stock.sql",
        "state = 'ACTIVE' AND expires_at <= now()",
        "state = 'ACTIVE' AND expires_at <= now() + interval '4 ms'",
        _of(RACES, "test_of_expiry_confirmation_and_release_exactly_one_ends_each_reservation"),
    ),
    Mutant(
        "a reservation is not prolonged before the charge",
        "checkout/order_saga.py",
        ", alongside=extend,",
        ",",
        _of(ORDER, "test_stock_is_held_for_as_long_as_its_payment_may_take"),
    ),
    Mutant(
        "a confirmation that comes late does not reserve again",
        "inventory/stock.py",
        "        again = await reserve(tx, late, ttl=ttl)\n        refused",
        "        again = [OUT_OF_STOCK] * len(late)\n        refused",
        _of(ORDER, "test_a_reservation_that_expired_is_made_anew_at_confirmation"),
    ),
    Mutant(
        "half an order is reserved",
        "inventory/model.py",
        "        if missing:\n            return None\n",
        "",
        (ALLOCATION,),
    ),
    Mutant(
        "a neighbour's share is given away twice",
        "inventory/model.py",
        "left[share.product_id, share.location] -= share.quantity",
        "pass",
        (ALLOCATION,),
    ),
]

ACCEPTANCE = [
    Mutant(
        "a key that was taken is a verdict",
        "checkout/place_order.py",
        'decided = [row for row in rows if row["verdict"] not in _PERHAPS_KNOWN]',
        "decided = rows",
        _of(PLACING, "test_a_key_that_was_taken_is_no_verdict_before_it_is_looked_up"),
    ),
    Mutant(
        "who has too many under way is not looked up",
        "checkout/place_order.py",
        'frozenset({"taken", "full"})',
        'frozenset({"taken"})',
        _of(PLACING, "test_who_asks_again_for_the_last_that_was_allowed_is_told_that_it_was_accepted"),
    ),
    Mutant(
        "a key is good for any body",
        "checkout/place_order.py",
        "if known.fingerprint != asked:",
        "if False:",
        _of(ORDER, "test_one_key_twenty_times_at_once_is_one_order"),
    ),
    Mutant(
        "a key that is taken is a fault",
        "checkout/place_order.sql",
        "        ON CONFLICT DO NOTHING\n",
        "",
        _of(RACES, "test_fifty_orders_under_one_key_at_two_processes_are_one"),
    ),
    Mutant(
        "who lost the key is written too",
        "checkout/place_order.sql",
        "AND (judged.key IS NULL OR keys.subject IS NOT NULL)",
        "",
        _of(RACES, "test_fifty_orders_under_one_key_at_two_processes_are_one"),
    ),
    Mutant(
        "an old price is good enough",
        "checkout/place_order.sql",
        "                WHEN EXISTS (SELECT 1 FROM lines WHERE lines.order_id = given.id AND is_stale) THEN 'stale'\n",
        "",
        _of(ORDER, "test_a_price_that_changes_before_the_commit_is_quoted_anew"),
    ),
    Mutant(
        "any number of orders may be under way",
        "checkout/place_order.sql",
        "> $27::int THEN 'full'",
        "> 2147483647 THEN 'full'",
        _of(PLACING, "test_nobody_has_more_orders_under_way_than_allowed"),
    ),
    Mutant(
        "the orders of one commit are not counted together",
        "checkout/place_order.sql",
        "+ row_number() OVER (PARTITION BY given.customer_id ORDER BY given.id)",
        "+ 1",
        _of(PLACING, "test_nobody_has_more_orders_under_way_than_allowed"),
    ),
    Mutant(
        "a disabled account may order",
        "checkout/place_order.sql",
        "CASE WHEN customers.id IS NULL THEN 'barred'\n                WHEN EXISTS",
        "CASE WHEN EXISTS",
        _of(PLACING, "test_a_disabled_account_orders_nothing"),
    ),
    Mutant(
        "an accepted order tells nobody",
        "checkout/place_order.sql",
        "'order', id, correlation_id, payload::jsonb, traceparent FROM won",
        "'order', id, correlation_id, payload::jsonb, traceparent FROM won WHERE false",
        _of(ORDER, "test_an_order_of_two_lines_is_confirmed"),
    ),
    Mutant(
        "after a lost COMMIT nobody looks what stands",
        "checkout/place_order.py",
        "                    if attempt:\n",
        "                    if False:\n",
        _of(PLACING, "test_an_order_whose_commit_was_not_answered_is_one_order"),
    ),
]

MESSAGING = [
    Mutant(
        "the relay reads past transactions that are open",
        "messaging/outbox.sql",
        " AND xid < pg_snapshot_xmin(pg_current_snapshot())",
        "",
        _of(OUTBOX, "test_what_commits_late_is_not_missed"),
    ),
    Mutant(
        "transactions are read in the order of their text",
        "messaging/outbox.sql",
        "ORDER BY outbox.xid, outbox.id LIMIT $3",
        "ORDER BY xid, outbox.id LIMIT $3",
        _of(OUTBOX, "test_transactions_are_in_the_order_of_numbers"),
    ),
    Mutant(
        "the relay's cursor is moved before it publishes",
        "messaging/relay.py",
        "        if events:\n            await streams.publish([outbox.envelope(event) for event in events])\n",
        "    if events:\n        await streams.publish([outbox.envelope(event) for event in events])\n",
        _of(OUTBOX, "test_a_crash_between_publishing_and_the_commit_repeats_the_same_events"),
    ),
    Mutant(
        "two relays read at one cursor",
        "messaging/outbox.sql",
        "SELECT xid::text AS xid, id FROM outbox_cursors WHERE sink = $1 FOR UPDATE SKIP LOCKED",
        "SELECT xid::text AS xid, id FROM outbox_cursors WHERE sink = $1",
        _of(OUTBOX, "test_two_relays_share_the_work_and_repeat_nothing"),
    ),
]

LOAD = [
    Mutant(
        "who comes later passes those who wait",
        "worker.py",
        "return 0 if self._lanes.in_hand[queue] else self._room(queue)",
        "return self._room(queue)",
        _of("tests/integration/test_worker.py", "test_nobody_passes_those_who_wait_at_a_queue"),
    ),
    Mutant(
        "a batch reads all that was ever sold",
        "db/database.py",
        '"enable_hashjoin": "off",',
        "",
        _of("tests/integration/test_hot_plans.py", "test_hot_statements_read_by_key"),
    ),
]

AFTER_THE_ORDER = [
    Mutant(
        "refunds at once are each decided for themselves",
        "orders/standing.py",
        "    await LOCK_PAYMENTS.run(tx, order_ids)\n    await LOCK_ORDERS.run(tx, order_ids)\n",
        "",
        _of(AFTER, "test_fifty_refunds_at_once_never_exceed_what_was_captured"),
    ),
    Mutant(
        "a refund takes what others were promised",
        "orders/standing.sql",
        "coalesce(payments.captured - payments.refunded - payments.refunding, 0)",
        "coalesce(payments.captured - payments.refunded, 0)",
        _of(AFTER, "test_a_refund_that_the_gateway_keeps_refusing_is_stuck_and_can_be_tried_again"),
    ),
    Mutant(
        "refunds of one call don't see each other",
        "orders/model.py",
        "    standing.left_to_refund -= amount\n",
        "",
        _of(AFTER, "test_refunds_of_one_call_are_decided_and_counted_together"),
    ),
    Mutant(
        "nobody asks whether a refund has gone out",
        "payments/refunds.py",
        "await self._gateway.find_refund(key) if request.is_repeat else None",
        "None",
        _of(AFTER, "test_a_refund_that_went_out_unheard_is_asked_for_and_not_repeated"),
    ),
    Mutant(
        "a refund that has gone out is called off",
        "saga/verbs.py",
        'and it will be found" if seen.is_done else None',
        'and it will be found" if False else None',
        _of(AFTER, "test_a_refund_that_has_gone_out_is_never_called_off"),
    ),
    Mutant(
        "what was seen of one call holds for the next",
        "saga/verbs.py",
        "if seen is None or seen.token != one.token:",
        "if seen is None:",
        _of(AFTER, "test_what_was_seen_of_one_call_says_nothing_of_the_next"),
    ),
    Mutant(
        "a refund that an operator tries again is a new one",
        "saga/log.sql",
        "WHEN 'forward' THEN least(attempt, 1) ELSE 0 END",
        "WHEN 'forward' THEN 0 ELSE 0 END",
        _of(AFTER, "test_a_refund_that_went_out_unheard_is_asked_for_and_not_repeated"),
    ),
    Mutant(
        "of refunds of one call one is promised",
        "payments/refunds.sql",
        "(SELECT order_id, sum(amount) AS amount FROM given GROUP BY order_id)",
        "(SELECT order_id, amount FROM given)",
        _of(AFTER, "test_refunds_of_one_call_are_decided_and_counted_together"),
    ),
    Mutant(
        "of refunds that end at once one is counted",
        "payments/refunds.sql",
        "(SELECT order_id, sum(amount) AS amount FROM ended GROUP BY order_id)",
        "(SELECT order_id, amount FROM ended)",
        _of(AFTER, "test_refunds_of_one_call_are_decided_and_counted_together"),
    ),
    Mutant(
        "more is given back than is left",
        "orders/model.py",
        "if amount > standing.left_to_refund:",
        "if amount > standing.captured:",
        _of(AFTER_RULES, "test_whatever_is_asked_nothing_exceeds_what_there_was"),
    ),
    Mutant(
        "what was put back is shipped",
        "orders/model.py",
        "return self.ordered - self.shipped - self.withdrawn",
        "return self.ordered - self.shipped",
        _of(AFTER_RULES, "test_what_was_withdrawn_is_not_shipped"),
    ),
    Mutant(
        "a refund that was called off stays promised",
        "checkout/refund_saga.py",
        "        await refunds.fail(tx, refund_ids)\n",
        "",
        _of(AFTER, "test_a_refund_that_was_given_up_is_free_again"),
    ),
    Mutant(
        "a shipped order is undone",
        "checkout/after_order.py",
        "return None if is_whole else HasFollowed()",
        "return None",
        _of(AFTER, "test_what_was_shipped_or_refunded_is_not_cancelled"),
    ),
]

EVENTS_TO_OTHERS = [
    Mutant(
        "an order's events overtake each other",
        "webhooks/deliveries.py",
        '    if row["is_behind"]:\n',
        '    if row["is_behind"] is None:\n',
        _of(WEBHOOKS, "test_a_receiver_that_was_down_for_an_hour_gets_everything_in_order"),
    ),
    Mutant(
        "an address is not judged when it is connected to",
        "webhooks/sender.py",
        "            if why is not None:\n                raise OSError(None, why)",
        "            if why is None and not host:\n                raise OSError(None, why)",
        _of(WEBHOOKS, "test_nothing_is_ever_sent_to_where_it_does_not_belong"),
    ),
    Mutant(
        "redirects are followed",
        "webhooks/sender.py",
        "headers=headers, allow_redirects=False",
        "headers=headers, allow_redirects=True",
        _of(WEBHOOKS, "test_a_redirect_is_followed_by_nobody"),
    ),
    Mutant(
        "webhooks take the places of mails",
        "webhooks/deliveries.py",
        "if left <= 0 or room",
        "if room",
        _of(HANGING, "test_a_mail_is_sent_while_a_hundred_endpoints_hang"),
    ),
    Mutant(
        "who does not answer is called as often as anybody",
        "webhooks/deliveries.py",
        "            self._mute.add(request.endpoint_id)\n",
        "",
        _of(HANGING, "test_who_did_not_answer_keeps_nobody_from_those_who_do"),
    ),
    Mutant(
        "who reads too slowly is not told all",
        "api/feed.py",
        "            self.end()\n            return\n        self._told.add",
        "            return\n        self._told.add",
        _of(FEED, "test_who_resumes_and_reads_too_slowly_is_sent_away_and_misses_nothing"),
    ),
    Mutant(
        "what comes meanwhile overtakes what was missed",
        "api/feed.py",
        "for event in (*missed, *early):",
        "for event in (*early, *missed):",
        _of(FEED, "test_who_resumes_and_reads_too_slowly_is_sent_away_and_misses_nothing"),
    ),
    Mutant(
        "who resumes is told again what was seen",
        "api/feed.py",
        "        self._told.update(known)\n",
        "",
        _of(FEED, "test_what_was_read_from_postgresql_is_not_told_again_by_redis"),
    ),
    Mutant(
        "a page outlives the product on it",
        "catalog/pages.py",
        "if kept is None or kept[0] != version:",
        "if kept is None:",
        _of(
            "tests/integration/test_api_products.py",
            "test_a_page_that_a_client_has_is_not_sent_again_until_a_product_changes",
        ),
    ),
]

IMPORTS = [
    Mutant(
        "two work at one import at once",
        "imports/imports.sql",
        "   FOR UPDATE SKIP LOCKED;",
        "   ;",
        _of(FILES, "test_two_workers_at_once_do_each_line_once"),
    ),
    Mutant(
        "an import passes the one before it",
        "imports/imports.sql",
        " WHERE id = (SELECT id FROM imports WHERE ended_at IS NULL ORDER BY id LIMIT 1) AND ended_at IS NULL\n",
        " WHERE id IN (SELECT id FROM imports WHERE ended_at IS NULL ORDER BY id) AND ended_at IS NULL LIMIT 1\n",
        _of(FILES, "test_files_are_worked_off_in_the_order_in_which_they_came"),
    ),
    Mutant(
        "stock is brought below what is held",
        "inventory/admin.py",
        "if on_hand < stock.held:",
        "if on_hand < 0:",
        _of(FILES, "test_stock_is_brought_there_with_its_movements"),
    ),
    Mutant(
        "a line that raises holds the others",
        "imports/batches.py",
        "return await _batch(tx, wanted, 1, _give_up, mark=tried)",
        "return await _batch(tx, wanted, 1, apply)",
        _of(FILES, "test_a_line_that_raises_is_rejected_and_holds_no_other"),
    ),
]

READS = [
    Mutant(
        "a replica is taken to have what it lacks",
        "db/replica.py",
        'while self._positions and self._positions[0][1] <= replayed["position"]:',
        "while self._positions:",
        _of(REPLICA, "test_nobody_sees_what_is_older_than_the_bound"),
    ),
    Mutant(
        "any other database is read as a replica",
        "db/replica.py",
        'if replayed["position"] is None or replayed["cluster"] != written["cluster"]:',
        'if replayed["cluster"] is None:',
        _of(REPLICA, "test_another_database_is_no_replica"),
    ),
    Mutant(
        "who has just written does not see it",
        "api/lists.py",
        "        return is_marked\n",
        "        return False\n",
        _of(REPLICA, "test_who_has_just_written_sees_it_in_every_process_and_others_see_it_later"),
    ),
    Mutant(
        "a replica that lacks a table fails the request",
        "db/replica.py",
        "except asyncpg.PostgresError as fault:  # it lacks a migration that the primary has",
        "except ZeroDivisionError as fault:",
        _of(REPLICA, "test_a_read_that_fails_there_is_read_from_the_primary"),
    ),
]

LIMITS = [
    Mutant(
        "a bucket never runs empty",
        "resilience/limits.py",
        "return after if after <= now + quota.seconds + _ROUNDING else None",
        "return after",
        _of(QUOTAS, "test_in_any_window_no_more_than_the_quota_and_what_fills_up"),
    ),
    Mutant(
        "each token opens a bucket of guesses",
        "api/rate_limits.py",
        'claims = self._bearer.claims(authorization) if kind != "auth" else None',
        "claims = self._bearer.claims(authorization)",
        _of(RATES, "test_signing_in_is_counted_by_address_whatever_token_is_shown"),
    ),
    Mutant(
        "each address of one customer is a client",
        "api/rate_limits.py",
        "_SUBNET_BITS = 64",
        "_SUBNET_BITS = 128",
        _of(RATES, "test_all_addresses_of_one_customer_are_one_client"),
    ),
    Mutant(
        "anybody's word about who asks is taken",
        "api/rate_limits.py",
        "while hops and (known := _parsed(asks)) is not None and is_within(known, trusted):",
        "while hops:",
        _of(RATES, "test_only_the_word_of_our_own_proxies_is_taken"),
    ),
    Mutant(
        "an emptied index stays empty",
        "api/rate_limits.py",
        "if index is None or index != self._told:",
        "if index is None:",
        _of(RATES, "test_redis_is_told_again_what_a_process_knows"),
    ),
    Mutant(
        "pages of others ask the console",
        "api/cross_origin.py",
        'path == but or path.startswith(f"{but}/")',
        "not path",
        _of("tests/integration/test_api_cross_origin.py", "test_no_page_of_others_may_ask_the_console"),
    ),
]

TRACES = [
    Mutant(
        "work for many is told to one of them",
        "tracing.py",
        "links=kept[1:], attributes=attributes, began=began)",
        "attributes=attributes, began=began)",
        _of("tests/unit/test_tracing.py", "test_work_for_many_is_linked_to_each_of_their_traces"),
    ),
    Mutant(
        "a call stands beside its attempt",
        "tracing.py",
        'return f"{traceparent[:36]}{own:016x}-01"',
        "return traceparent",
        _of("tests/unit/test_tracing.py", "test_a_call_stands_below_an_attempt_that_is_told_later"),
    ),
]

CONSOLE = [
    Mutant(
        "forms are taken from anywhere",
        "console/app.py",
        "if not is_of_this_origin(request):",
        "if False:",
        _of(
            DOORS,
            "test_a_form_from_elsewhere_or_without_its_token_does_nothing",
            "test_signing_in_from_elsewhere_does_nothing",
        ),
    ),
    Mutant(
        "forms need no token",
        "console/app.py",
        'if page.roles and not hmac.compare_digest(ask.form.get("csrf", "").encode(), ask.csrf.encode()):',
        "if False:",
        _of(DOORS, "test_a_form_from_elsewhere_or_without_its_token_does_nothing"),
    ),
    Mutant(
        "a viewer acts",
        "console/app.py",
        "if page.roles and account is not None and account.role not in page.roles:",
        "if False:",
        _of(DOORS, "test_each_role_gets_as_far_as_its_route_says"),
    ),
    Mutant(
        "read-only is only said",
        "console/app.py",
        "if page.acts and self._desk.is_read_only:",
        "if False:",
        _of(DOORS, "test_read_only_nobody_acts_and_switched_off_it_is_not_there"),
    ),
    Mutant(
        "who was demoted stays in",
        "console/app.py",
        "return account if account is not None and account.is_active and account.role in STAFF else None",
        "return account",
        _of(DOORS, "test_who_is_demoted_or_switched_off_is_out_at_once"),
    ),
    Mutant(
        "what customers write is run",
        "console/render.py",
        "autoescape=True",
        "autoescape=False",
        _of(PAGES, "test_hostile_texts_are_shown_and_never_run"),
    ),
    Mutant(
        "anybody may frame the console",
        "console/ask.py",
        "frame-ancestors 'none'",
        "frame-ancestors *",
        _of(DOORS, "test_every_page_guards_itself"),
    ),
    Mutant(
        "what a receiver refused looks well",
        "console/render.py",
        'return "good" if state.startswith("2") else "bad"',
        'return "good"',
        _of("tests/unit/test_console_words.py", "test_what_a_receiver_answered_is_shown_as_it_was_meant"),
    ),
    Mutant(
        "a look at an act does it",
        "console/orders.py",
        "        raise _TakenBack\n",
        "        return None\n",
        _of(PAGES, "test_an_order_is_found_explained_and_retried"),
    ),
    Mutant(
        "what is found is looked through no further for a customer",
        "console/orders.py",
        'if is_filtered and found[0]["looked_at"] == span:',
        'if is_filtered and source == "all" and found[0]["looked_at"] == span:',
        _of(SCALE, "test_a_customers_orders_are_looked_through_to_the_first"),
    ),
    Mutant(
        "each stream is rendered for itself",
        "console/pieces.py",
        "if known is None:",
        "if True:",
        _of(SCALE, "test_a_piece_is_rendered_once_for_all_who_see_the_same"),
    ),
    Mutant(
        "orders of a span are joined as the planner likes",
        "console/orders.sql",
        "WHERE id = newest.id LIMIT 1",
        "WHERE id = newest.id",
        _of(SCALE, "test_no_page_reads_a_large_table_or_index_from_end_to_end"),
    ),
    Mutant(
        "five are as many as all",
        "console/letters.py",
        '"five": 5,',
        '"five": 500,',
        _of(PAGES, "test_dead_letters_are_gathered_and_sent_round_by_one_by_five_and_all"),
    ),
    Mutant(
        "a difference at the gateway is under way for ever",
        "proof/reconcile.py",
        'if said in {"captured", "refunded"} and standing == "under way":',
        'if said in {"captured", "refunded"}:',
        _of(RECONCILE, "test_each_difference_is_found_and_summed_up"),
    ),
    Mutant(
        "effects stand before their causes",
        "checkout/causes.py",
        "found.append(next((one.at for one in span if any(cause.fits(one) for cause in causes)), at))",
        "found.append(at)",
        _of(CAUSES, "test_what_one_transaction_did_stands_each_after_its_own_attempt"),
    ),
    Mutant(
        "everybody sees what webhooks carry",
        "console/jobs.py",
        'is_shown = ask.is_admin or (order_id is not None and job["kind"] not in _FOR_ADMINS)',
        "is_shown = True",
        _of(JOBS, "test_what_is_not_everybodys_is_shown_to_admins_only"),
    ),
]

ACTS_ON_MANY = [
    Mutant(
        "what came up since the look is acted on",
        "bulk/selection.sql",
        "WHERE state = 'COMPENSATION_FAILED' AND updated_at < $1\n",
        "WHERE state = 'COMPENSATION_FAILED' AND $1::timestamptz IS NOT NULL\n",
        _of(BULK, "test_what_was_not_shown_is_not_acted_on"),
    ),
    Mutant(
        "a saga that has moved on is acted on",
        "saga/verbs.py",
        "if stood is not None and stood.get(one.id, was) != was:",
        "if False:",
        _of(BULK, "test_one_that_has_moved_on_since_is_left_alone"),
    ),
    Mutant(
        "the last item of a chunk is done again",
        "bulk/bulks.sql",
        "bulk_id = $1 AND position > $2 ORDER BY position LIMIT $3",
        "bulk_id = $1 AND position >= $2 ORDER BY position LIMIT $3",
        _of(BULK, "test_all_that_are_stuck_are_retried_once_each_in_chunks"),
    ),
    Mutant(
        "somebody's code is sent elsewhere",
        "notifications/corrections.py",
        "return self.kind in ACCOUNT_KINDS",
        "return False",
        _of(
            "tests/integration/test_console_bulk.py",
            "test_what_can_not_be_put_right_is_refused_and_nothing_is_sent",
        ),
    ),
]

ALL = [
    *COMPENSATIONS,
    *SAGA,
    *PAYMENTS,
    *INVENTORY,
    *ACCEPTANCE,
    *MESSAGING,
    *LOAD,
    *AFTER_THE_ORDER,
    *EVENTS_TO_OTHERS,
    *IMPORTS,
    *READS,
    *LIMITS,
    *TRACES,
    *CONSOLE,
    *ACTS_ON_MANY,
]
