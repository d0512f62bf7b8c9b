"""Every fault that Comanda raises. A refusal (no stock, declined card) is a value, never one of these.

Fault
├── ConfigurationFault      a setting or an argument is wrong; exit code 2
├── DependencyFault         something that Comanda needs does not answer; exit code 4
│   ├── DatabaseFault
│   │   ├── DiskFull        PostgreSQL has no room left; readiness says so until it has
│   │   ├── Stale           a replica that has not got as far as is asked for
│   │   ├── Overrun         a statement ran into its time-out: this work is too much, or waits for too long
│   │   └── Deadlock        rolled back by PostgreSQL for a lock; the same work may be tried again at once
│   ├── RedisFault
│   └── GatewayFault
│       ├── GatewayBusy     it answered: not now (safe to repeat)
│       └── GatewaySilent   no answer: the charge may have happened
├── DefinitionFault         a saga is declared or stored in a way that can't run
└── MigrationFault          the schema can't be brought to where the code needs it
"""


class Fault(Exception):
    """Something is broken; the message says what to do next."""

    exit_code = 1


class ConfigurationFault(Fault):
    exit_code = 2


class DependencyFault(Fault):
    exit_code = 4


class DatabaseFault(DependencyFault):
    pass


class DiskFull(DatabaseFault):
    pass


class Stale(DatabaseFault):
    pass


class Deadlock(DatabaseFault):
    pass


class Overrun(DatabaseFault):
    pass


class RedisFault(DependencyFault):
    pass


class GatewayFault(DependencyFault):
    pass


class GatewayBusy(GatewayFault):
    pass


class GatewaySilent(GatewayFault):
    pass


class DefinitionFault(Fault):
    pass


class MigrationFault(Fault):
    pass
