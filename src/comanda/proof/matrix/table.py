"""The table of failures, in the order of the page. Read it aloud: what fails, how, and what has to hold."""

from comanda.proof.matrix import database, index, money, processes, races
from comanda.proof.matrix.scenario import QUICK, Scenario

_OUTBOX = "tests/integration/test_outbox_faults.py"
_VERBS = "tests/integration/test_saga_verbs.py"
_SLOW_CALLS = {"GATEWAY_LATENCY_MS": "500-1500"}

# fmt: off
SCENARIOS = [
    Scenario(
        name="worker-killed", group="Processes", failure="a worker is killed with calls out",
        how="kill -9 of one of two workers under 20 orders/s, default lease of 10 s",
        target="its work goes on ≤ 15 s later", run=processes.worker_killed, settings=_SLOW_CALLS,
    ),
    Scenario(
        name="zombie", group="Processes", failure="a worker comes back from the dead",
        how="SIGSTOP past its lease (1 s), another takes over, SIGCONT",
        target="0 stale writes, ≥ 1 result refused by its fencing token",
        run=processes.zombie, settings={**QUICK, **_SLOW_CALLS},
    ),
    Scenario(
        name="api-killed", group="Processes", failure="the API is killed",
        how="kill -9 of the only API process under 20 orders/s, five times",
        target="no accepted order lost, none twice (how soon the next 202 comes has no target)",
        run=processes.api_killed,
    ),
    Scenario(
        name="relay-killed", group="Processes", failure="the relay is killed",
        how="kill -9 under 10 orders/s, five times",
        target="events late by ≤ 5 s, none lost", run=processes.relay_killed,
    ),
    Scenario(
        name="relay-between", group="Processes", failure="the relay dies between publishing and marking",
        how="200 times, in a test: test_a_relay_killed_200_times_between_publish_and_mark_has_each_effect_once",
        target="one effect for each event",
        tests=[f"{_OUTBOX}::test_a_relay_killed_200_times_between_publish_and_mark_has_each_effect_once"],
    ),
    Scenario(
        name="late-commits", group="Processes", failure="events commit out of order",
        how="10,000 events with commit delays of 0 to 200 ms, in a test: "
            "test_of_10000_events_whose_commits_come_out_of_order_none_is_missed",
        target="0 missed (a cursor on ids misses some: shown)",
        tests=[f"{_OUTBOX}::test_of_10000_events_whose_commits_come_out_of_order_none_is_missed"],
    ),
    Scenario(
        name="deploy", group="Processes", failure="a deploy under load",
        how="SIGTERM to two APIs and two workers, one after the other; 20 orders/s of clients that don't try again",
        target="0 failed requests, 0 leases left behind", run=processes.deploy, apis=2,
    ),
    Scenario(
        name="shutdown", group="Processes", failure="everything is asked to stop under load",
        how="SIGTERM to `comanda up` under 20 orders/s, then started again",
        target="exit code 0; every accepted order is there and ends", run=processes.shutdown,
    ),
    Scenario(
        name="backpressure", group="Processes", failure="workers stand still",
        how="SIGSTOP of both for 5 minutes under 25 orders/s; COMANDA_MAX_BACKLOG=3000",
        target="API +≤ 50 MiB; then 503 with Retry-After in ≤ 50 ms; all that was accepted ends",
        run=processes.backpressure, settings={"MAX_BACKLOG": "3000"},
    ),
    Scenario(
        name="poison-message", group="Processes", failure="a message that nobody can read",
        how="written onto a stream under 20 orders/s",
        target="dead letter after ≤ 5 claims; the others' p99 ≤ 2 times, or 100 ms", run=index.unreadable,
    ),
    Scenario(
        name="poison-job", group="Processes", failure="a job that kills its worker",
        how="in a test: test_a_local_step_that_kills_its_workers_is_a_dead_letter_and_its_neighbours_go_on",
        target="dead letter after ≤ 5 claims; the others go on",
        tests=[
            f"{_VERBS}::test_a_local_step_that_kills_its_workers_is_a_dead_letter_and_its_neighbours_go_on",
            f"{_VERBS}::test_a_call_without_a_limit_that_kills_its_workers_is_a_dead_letter",
        ],
    ),

    Scenario(
        name="postgres-restart", group="PostgreSQL", failure="PostgreSQL is shut down at once",
        how="immediate shutdown under 20 orders/s, three times",
        target="first success ≤ 5 s after it accepts connections; 0 lost, 0 duplicates", run=database.restarted,
    ),
    Scenario(
        name="backends-terminated", group="PostgreSQL", failure="all connections are ended by the server",
        how="pg_terminate_backend of all under 20 orders/s, five times",
        target="next 202 ≤ 5 s, no 500; 0 lost, 0 duplicates", run=database.terminated,
    ),
    Scenario(
        name="commits-unheard", group="PostgreSQL", failure="a connection is cut between COMMIT and its answer",
        how="three at a time by the proxy, ten times, under 20 orders/s",
        target="0 lost, 0 duplicates, no 500", run=database.commits_unheard,
    ),
    Scenario(
        name="pool-exhausted", group="PostgreSQL", failure="the pool is exhausted",
        how="200 clients at once, PostgreSQL's answers 200 ms late by the proxy, "
            "COMANDA_POOL_SIZE=5 (where there is such a setting)",
        target="nothing hangs > 3 s; liveness stays 200", run=database.pool_exhausted, settings={"POOL_SIZE": "5"},
    ),
    Scenario(
        name="disk-full", group="PostgreSQL", failure="the disk is full",
        how="data folder on a file system of 400 MiB, filled to the last byte under 10 orders/s, then freed",
        target="503 and readiness down, then recovery; 0 lost", run=database.disk_full, disk=400,
    ),
    Scenario(
        name="readiness", group="PostgreSQL", failure="PostgreSQL is out of reach",
        how="the proxy refuses connections for 10 s; probes look",
        target="/health/ready 503, 200 again ≤ 5 s after; /health/live stays 200", run=database.readiness,
    ),
    Scenario(
        name="half-open-postgres", group="PostgreSQL", failure="half-open TCP to PostgreSQL",
        how="the proxy swallows everything for 10 s under 10 orders/s, clients that don't try again",
        target="requests fail ≤ 5 s", run=database.half_open(lambda stage: stage.database_link),
    ),
    Scenario(
        name="standby", group="PostgreSQL", failure="the primary is lost for good, a standby is promoted",
        how="-", target="≤ 30 s, 0 acknowledged orders lost with a synchronous standby",
        later="A streaming standby that is promoted when the primary is lost comes later: `comanda up` starts a single "
              "PostgreSQL. What holds for any server that is lost and comes back (rows above) holds for a promoted one "
              "too; that a synchronous standby loses no acknowledged order is not shown here yet.",
    ),

    Scenario(
        name="redis-flushall", group="Redis and wake-ups", failure="Redis forgets everything",
        how="FLUSHALL with 10,000 jobs queued (queue paused, then resumed)",
        target="0 lost; work goes on ≤ 10 s later", run=index.flushed,
    ),
    Scenario(
        name="redis-killed", group="Redis and wake-ups", failure="Redis is killed",
        how="kill -9 under 20 orders/s, three times",
        target="0 lost; orders end again ≤ 10 s later", run=index.killed,
    ),
    Scenario(
        name="redis-file-cut", group="Redis and wake-ups", failure="Redis' append-only file is cut",
        how="kill -9, the file ends at a random byte when it starts again, three times",
        target="0 lost; orders end again ≤ 10 s later", run=index.file_cut,
    ),
    Scenario(
        name="redis-away", group="Redis and wake-ups", failure="Redis is down",
        how="the proxy refuses connections for 20 s; 24 clients, one order at a time each",
        target="orders are accepted and end all the same; no 503", run=index.away,
    ),
    Scenario(
        name="half-open-redis", group="Redis and wake-ups", failure="half-open TCP to Redis",
        how="the proxy swallows everything for 10 s under 10 orders/s, clients that don't try again",
        target="requests are answered ≤ 5 s", run=database.half_open(lambda stage: stage.redis_link),
    ),
    Scenario(
        name="wake-ups-lost", group="Redis and wake-ups", failure="wake-ups are lost",
        how="notifications dropped by the proxy, listening connections killed, five times",
        target="events picked up within the poll (0.5 s) + 0.5 s; it listens again ≤ 5 s", run=index.wake_ups_lost,
    ),
    Scenario(
        name="sentinel", group="Redis and wake-ups", failure="Redis fails over to a replica (Sentinel)",
        how="-", target="0 lost; ready ≤ 10 s",
        later="Failing over by Sentinel comes later: `comanda up` starts a single Valkey, and Comanda connects to one "
              "address. No promise rests on Redis: a replica that lacks the newest writes, or all of them, is the row "
              "`FLUSHALL` above.",
    ),

    Scenario(
        name="gateway-down", group="Money and messages", failure="the gateway is down for a minute",
        how="killed and refusing connections for 60 s under 10 orders/s; requests counted at the proxy",
        target="breaker opens; calls ≤ 2 times the steady rate when it is back; orders wait and end",
        run=money.gateway_down,
    ),
    Scenario(
        name="answers-lost", group="Money and messages", failure="the gateway's answer is lost after the capture",
        how="the proxy cuts the answers to 20 charges",
        target="one capture each, exact money", run=money.answers_lost,
    ),
    Scenario(
        name="gateway-504", group="Money and messages", failure="504 after the capture",
        how="20 charges with pm_timeout_after_capture",
        target="one capture each, exact money", run=money.gateway_times_out,
    ),
    Scenario(
        name="answers-late", group="Money and messages", failure="the answer comes after 30 s",
        how="20 charges with pm_slow_30000; the client's time-out is 5 s",
        target="one capture each, exact money", run=money.answers_late,
    ),
    Scenario(
        name="charges-held", group="Money and messages", failure="a charge arrives after its order was undone",
        how="20 charges held back by the proxy, delivered after the void; patience of 6 s",
        target="0 captures", run=money.charges_held, settings=QUICK,
    ),
    Scenario(
        name="refunds-fail", group="Money and messages", failure="money can't be given back for 30 s",
        how="20 captures whose answers are lost, then the gateway answers 500; payment's patience 5 s",
        target="it converges, to the cent", run=money.refunds_fail, settings={"PAYMENT_PATIENCE_SECONDS": "5"},
    ),
    Scenario(
        name="refunds-fail-for-ever", group="Money and messages", failure="money can't be given back at all",
        how="the same, until it is stuck; mended, then `comanda saga retry`",
        target="visible as stuck ≤ 60 s: metric, list, operator's webhook; retry ends it",
        run=money.refunds_fail_for_ever, settings={"PAYMENT_PATIENCE_SECONDS": "5"},
    ),
    Scenario(
        name="half-open-gateway", group="Money and messages", failure="half-open TCP to the gateway",
        how="the proxy swallows everything for 10 s under 10 orders/s",
        target="requests are answered ≤ 5 s", run=database.half_open(lambda stage: stage.gateway_link),
    ),
    Scenario(
        name="mail-down", group="Money and messages", failure="the mail provider is down",
        how="each message is refused for ten seconds and more (a trigger)",
        target="orders are CONFIRMED all the same; messages wait and go out", run=money.mail_down, settings=QUICK,
    ),

    Scenario(
        name="oversell", group="Many at once, and clocks", failure="500 want what there are 200 of",
        how="500 orders of 50 customers at once over HTTP",
        target="sold = stock", run=races.oversold, customers=50, settings=QUICK,
    ),
    Scenario(
        name="deadlock", group="Many at once, and clocks", failure="overlapping baskets in random order",
        how="200 baskets of 8 of 12 products at once over HTTP, a third of them given back",
        target="0 deadlocks, 0 answers of 5xx", run=races.overlapping, settings=QUICK,
    ),
    Scenario(
        name="clock", group="Many at once, and clocks", failure="a process's clock is wrong by ten minutes",
        how="libfaketime", target="no lease twice",
        skipped="libfaketime is not installed. Leases, waits and expiries are written and compared by PostgreSQL's "
                "clock alone (`now()` in saga/log.sql, inventory/stock.sql), so a process's clock decides about none of"
                " them",
    ),
]
# fmt: on
