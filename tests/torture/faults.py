"""The catalogue of faults. Each is a generator: it begins one, yields how long it lasts (seconds), and ends it."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from reindexer.testing.proxy import Mode
from tests.torture.environment import LEASE_S, Stage
from tests.torture.processes import Cast
from tests.torture.provider_faults import SLOW_MODEL, TOLD

Course = Generator[float, None, None]


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault is made with, and what it happens to."""

    stage: Stage
    cast: Cast
    rng: random.Random
    target: str


@dataclass(frozen=True, slots=True)
class Fault:
    """`targets`: what it may happen to; a part that has one fault gets no second one meanwhile."""

    name: str
    weight: float
    targets: Sequence[str]
    course: Callable[[Scene], Course]
    kills_server: bool = False
    """Only where the server is ours."""


LISTENERS = ("listener-0", "listener-1")
WORKERS = ("worker-prefork", "worker-threads", "worker-solo")
NETWORKS = ("provider", "qdrant", "redis", "postgres")


def process_killed(scene: Scene) -> Course:
    scene.cast.kill(scene.target)
    yield scene.rng.uniform(0.0, 2.0)
    scene.cast.start(scene.target)


def pool_process_killed(scene: Scene) -> Course:
    scene.cast.kill_pool_child(scene.target, scene.rng)
    yield 0.5


def stopped_beyond_its_lease(scene: Scene) -> Course:
    scene.cast.signal(scene.target, signal.SIGSTOP)
    yield LEASE_S + scene.rng.uniform(0.2, 2.0)
    scene.cast.signal(scene.target, signal.SIGCONT)


def stopped_for_a_moment(scene: Scene) -> Course:
    scene.cast.signal(scene.target, signal.SIGSTOP)
    yield scene.rng.uniform(0.1, LEASE_S)
    scene.cast.signal(scene.target, signal.SIGCONT)


def other_model(scene: Scene) -> Course:
    """A deployment that lacks the provider's settings: it takes part in everything for a while, and makes no vector.

    Not before each source has its model: the first worker of a source decides it, and would be the right one.
    """
    if not scene.stage.every_source_has_its_model():
        yield 0.0
        return
    stranger = scene.cast.start_stranger()
    yield scene.rng.uniform(4.0, 12.0)
    scene.cast.kill_stranger(stranger)


def network(mode: Mode, shortest_s: float, longest_s: float) -> Callable[[Scene], Course]:
    def course(scene: Scene) -> Course:
        for proxy in scene.stage.proxies[scene.target]:
            proxy.mode = mode
        yield scene.rng.uniform(shortest_s, longest_s)
        for proxy in scene.stage.proxies[scene.target]:
            proxy.mode = Mode.PASS

    return course


def requests_late(scene: Scene) -> Course:
    """What is sent on the open connections arrives when their senders have given up and done it anew on others."""
    for proxy in scene.stage.proxies[scene.target]:
        proxy.freeze()
    yield scene.rng.uniform(0.5, LEASE_S + 1.5)
    for proxy in scene.stage.proxies[scene.target]:
        proxy.thaw()


def slow_network(scene: Scene) -> Course:
    for proxy in scene.stage.proxies[scene.target]:
        proxy.latency_s = 0.25
    yield scene.rng.uniform(0.5, 2.5)
    for proxy in scene.stage.proxies[scene.target]:
        proxy.latency_s = 0.0


def provider_lies(scene: Scene) -> Course:
    scene.stage.lies.tell(scene.rng.choice(["hang", *TOLD]))
    yield scene.rng.uniform(0.3, 3.0)
    scene.stage.lies.tell(None)


def slow_model(scene: Scene) -> Course:
    """For longer than a lease: long items go on from claim to claim."""
    scene.stage.lies.tell(SLOW_MODEL)
    yield scene.rng.uniform(LEASE_S, 3 * LEASE_S)
    scene.stage.lies.tell(None)


def connections_terminated(scene: Scene) -> Course:
    """All of ours, or those of one role."""
    role = scene.rng.choice(["reindexer %", "reindexer listener", "reindexer worker", "reindexer api"])
    with scene.stage.connect() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE %s", [role]
        )
    yield 0.1


def related_table_locked(scene: Scene) -> Course:
    """For longer than a statement of ours waits: its documents can't be read meanwhile."""
    with scene.stage.connect() as connection, connection.transaction():
        connection.execute(f"LOCK TABLE {scene.rng.choice(['customers', 'labels', 'ticket_labels'])}".encode())
        yield scene.rng.uniform(0.5, 6.0)


def due_table_locked(scene: Scene) -> Course:
    """As by an administrator's VACUUM FULL."""
    with scene.stage.connect() as connection, connection.transaction():
        connection.execute("LOCK TABLE reindexer.due IN ACCESS EXCLUSIVE MODE")
        yield scene.rng.uniform(0.3, 2.0)


def postgres_restarted(scene: Scene) -> Course:
    """Stopped at once, without a checkpoint."""
    scene.stage.stop_postgres()
    yield scene.rng.uniform(0.0, 1.5)
    scene.stage.start_postgres()


def postgres_crashed(scene: Scene) -> Course:
    scene.stage.kill_backend()
    yield 1.0


def redis_flushed(scene: Scene) -> Course:
    scene.stage.flush_redis()
    yield 0.1


def redis_restarted(scene: Scene) -> Course:
    scene.stage.stop_redis()
    yield scene.rng.uniform(0.0, 2.0)
    scene.stage.start_redis()


def qdrant_restarted(scene: Scene) -> Course:
    scene.stage.stop_qdrant()
    yield scene.rng.uniform(0.0, 1.5)
    scene.stage.start_qdrant()


FAULTS: Sequence[Fault] = (
    Fault("killed", 10, (*WORKERS, *LISTENERS, "api"), process_killed),
    Fault("killed", 8, ("actor",), process_killed),
    Fault("stopped for a moment", 1, ("actor",), stopped_for_a_moment),
    Fault("pool process killed", 3, ("worker-prefork",), pool_process_killed),
    Fault("stopped beyond its lease", 8, WORKERS, stopped_beyond_its_lease),
    Fault("stopped for a moment", 3, (*WORKERS, *LISTENERS), stopped_for_a_moment),
    Fault("has another model", 4, ("stranger",), other_model),
    Fault("refused", 4, NETWORKS, network(Mode.REFUSE, 0.2, 2.0)),
    Fault("away for long", 4, ("provider",), network(Mode.REFUSE, 4.0, 12.0)),
    Fault("cut", 6, NETWORKS, network(Mode.CUT, 0.05, 1.0)),
    Fault("stalled", 6, NETWORKS, network(Mode.STALL, 0.3, 3.0)),
    Fault("stalled beyond the lease", 3, ("qdrant",), network(Mode.STALL, LEASE_S, LEASE_S + 1.5)),
    Fault("replies lost", 8, NETWORKS, network(Mode.DROP_REPLY, 0.1, 1.0)),
    Fault("replies late", 4, NETWORKS, network(Mode.HOLD_REPLY, 0.3, 3.0)),
    Fault("requests late", 6, ("qdrant",), requests_late),
    Fault("requests late", 4, NETWORKS, requests_late),
    Fault("slow", 2, NETWORKS, slow_network),
    Fault("lies", 8, ("provider",), provider_lies),
    Fault("has a slow model", 5, ("provider",), slow_model),
    Fault("refused", 2, ("collector",), network(Mode.REFUSE, 0.5, 4.0)),
    Fault("stalled", 2, ("collector",), network(Mode.STALL, 0.5, 8.0)),
    Fault("cut", 1, ("collector",), network(Mode.CUT, 0.5, 2.0)),
    Fault("replies lost", 1, ("collector",), network(Mode.DROP_REPLY, 0.5, 4.0)),
    Fault("connections terminated", 4, ("postgres",), connections_terminated),
    Fault("related table locked", 1, ("postgres",), related_table_locked),
    Fault("due locked", 1, ("postgres",), due_table_locked),
    Fault("flushed", 3, ("redis",), redis_flushed),
    Fault("restarted", 3, ("redis",), redis_restarted, kills_server=True),
    Fault("restarted", 2, ("qdrant",), qdrant_restarted, kills_server=True),
    Fault("restarted at once", 1, ("postgres",), postgres_restarted, kills_server=True),
    Fault("backend killed", 1, ("postgres",), postgres_crashed, kills_server=True),
)
