"""What scenarios look at in the tables, past the proxies. Reads only."""

from comanda.db import twin

_sql = twin(__file__)
LEASED = _sql["leased"]
STILL_LEASED = _sql["still_leased"]
LEASES = _sql["leases"]
DEADLOCKS = _sql["deadlocks"]
STATES = _sql["states"]
FIRST_ENDED = _sql["first_ended"]
NOW = _sql["now"]
STUCK = _sql["stuck"]
MESSAGES = _sql["messages"]
LETTERS = _sql["letters"]
LISTENERS = _sql["listeners"]
IN_TRANSACTION = _sql["in_transaction"]
BREAKER = _sql["breaker"]
ENDED_SINCE = _sql["ended_since"]
PUBLISHED_SINCE = _sql["published_since"]
UNDOING = _sql["undoing"]
CONNECTED = _sql["connected"]
