"""Run the tests on a distribution's own PostgreSQL and Redis: the oldest PostgreSQL that Comanda takes, if it is there.

`python tests/on_debian_servers.py [arguments of pytest]`; without any, `-n 2`. The servers live in a folder that is
deleted afterwards. As root they run as `nobody`. The exit code is that of pytest, 2 when a server is missing.
"""

import asyncio
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from comanda.db.database import connect
from comanda.engines import servers
from comanda.engines.child import Child, begin, engine_environment, run, stop
from comanda.engines.ports import LOOPBACK, free_port
from comanda.engines.postgres import SETTINGS
from comanda.engines.privileges import account_for, give
from comanda.errors import ConfigurationFault, Fault

POSTGRES_HOME = Path("/usr/lib/postgresql")
ROLE = "comanda_tests"
# No sorting by code point, which the embedded server has: nothing may depend on it.
LOCALE = ("--encoding", "UTF8", "--locale", "C.UTF-8", "--locale-provider", "icu", "--icu-locale", "en-US")


def installed() -> tuple[Path, Path]:
    """The folder of PostgreSQL's programs, and Redis' server.

    Raises:
        ConfigurationFault: one of them is not installed.
    """
    versions = sorted(int(found.name) for found in POSTGRES_HOME.glob("[0-9]*") if (found / "bin/initdb").exists())
    version = next((one for one in versions if one >= servers.OLDEST_POSTGRES), None)
    if version is None:
        raise ConfigurationFault(
            f"There is no PostgreSQL {servers.OLDEST_POSTGRES} or newer in {POSTGRES_HOME}: apt-get install postgresql"
        )
    redis = shutil.which("redis-server")
    if redis is None:
        raise ConfigurationFault("There is no redis-server: apt-get install redis-server")
    return POSTGRES_HOME / str(version) / "bin", Path(redis)


@asynccontextmanager
async def postgres(binaries: Path, root: Path) -> AsyncIterator[str]:
    """A new server; the URL of a role that may create databases, and nothing more."""
    folder, pwfile, log = root / "postgres", root / "password", root / "postgres.log"
    password, port, account = secrets.token_urlsafe(18), free_port(), account_for(folder, binaries / "postgres")
    folder.mkdir(mode=0o700)
    pwfile.write_text(password, encoding="ascii")
    give(folder, account)
    give(pwfile, account)
    env, owner = engine_environment(), f"postgresql://postgres:{password}@{LOOPBACK}:{port}/postgres?sslmode=disable"
    initdb = [str(binaries / "initdb"), "-D", str(folder), "--username", "postgres", "--pwfile", str(pwfile)]
    initdb += ["--auth", "scram-sha-256", *LOCALE]
    if await run(Child(name="initdb", argv=lambda: initdb, env=env, cwd=root, account=account, log=log)) != 0:
        raise ConfigurationFault(f"initdb failed: {log.read_text(encoding='utf-8')}")
    names = ("listen_addresses", "unix_socket_directories", "max_connections", "timezone")
    settings = {"port": str(port), **{name: SETTINGS[name] for name in names}}
    flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    server = [str(binaries / "postgres"), "-D", str(folder), *flags]
    ready = _answers(lambda: servers.check_postgres(owner, patience=0))
    async with _kept(Child(name="postgres", argv=lambda: server, env=env, account=account, log=log, ready=ready)):
        connection = await connect(owner, name="tests")
        await connection.execute(f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{password}'")
        await connection.close()
        yield owner.replace("//postgres:", f"//{ROLE}:")


@asynccontextmanager
async def redis(program: Path, root: Path) -> AsyncIterator[str]:
    """A new server's URL."""
    folder, log = root / "redis", root / "redis.log"
    password, port, account = secrets.token_urlsafe(18), free_port(), account_for(folder, program)
    folder.mkdir(mode=0o700)
    settings = {"bind": LOOPBACK, "port": str(port), "requirepass": password, "dir": ".", "appendonly": "yes"}
    lines = [f'{name} "{value}"\n' for name, value in settings.items()]
    (folder / "redis.conf").write_text("".join(lines), encoding="ascii")
    give(folder, account)
    url = f"redis://:{password}@{LOOPBACK}:{port}/0"
    server, env = [str(program), "redis.conf"], engine_environment()
    ready = _answers(lambda: servers.check_redis(url, patience=0))
    async with _kept(
        Child(name="redis", argv=lambda: server, env=env, cwd=folder, account=account, log=log, ready=ready)
    ):
        yield url


@asynccontextmanager
async def _kept(child: Child) -> AsyncIterator[None]:
    process = await begin(child)
    try:
        yield
    finally:
        await stop(child, process)


def _answers(check: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[bool]]:
    async def ready() -> bool:
        try:
            await check()
        except Fault:
            return False
        return True

    return ready


async def run_tests(arguments: list[str]) -> int:
    """Run pytest on both; its exit code."""
    binaries, program = installed()
    with tempfile.TemporaryDirectory(prefix="comanda-servers-") as name:
        root = Path(name)
        async with postgres(binaries, root) as database_url, redis(program, root) as redis_url:
            urls = {"COMANDA_DATABASE_URL": database_url, "COMANDA_REDIS_URL": redis_url}
            command = [sys.executable, "-m", "pytest", *(arguments or ["-n", "2"])]
            tests = await asyncio.create_subprocess_exec(*command, env={**os.environ, **urls})
            return await tests.wait()


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(run_tests(sys.argv[1:])))
    except Fault as fault:
        sys.stderr.write(f"{fault}\n")
        sys.exit(fault.exit_code)
