"""The audience: a receiver of all events, which is slow, refuses, dies and is away; and what it should have been told."""

from __future__ import annotations

import random
import threading
import time

from reindexer.events import receivers
from reindexer.index.ownership import identity
from reindexer.postgres.connect import connect
from tests.support.receiver import Message, Receiver, Reply
from tests.torture.afterwards import TOLD, Tell
from tests.torture.checker import SOURCES
from tests.torture.environment import Stage

TAKEN_WITHIN_S = 45.0
WAITING = "SELECT count(*) FROM reindexer.event"
OUTCOMES = """
SELECT ledger.source, item_id, CASE WHEN outcome = 'FAILED' THEN 'item.failed'
    WHEN outcome = 'COMPLETED' AND chunks > 0 THEN 'item.searchable' ELSE 'item.deleted' END
FROM reindexer.ledger JOIN reindexer.source ON name = ledger.source AND source.generation = ledger.generation
"""


class Audience:
    """Listens until `be_calm`, and whatever happens keeps what it has taken."""

    def __init__(self, stage: Stage, seed: str) -> None:
        self._stage = stage
        self._dice = random.Random(f"{seed}/audience")
        self._calm = threading.Event()
        self.receiver = Receiver()
        self.receiver.plan = self._answer
        with connect(stage.database_url, application_name="torture") as connection:
            made = receivers.add(
                connection, "audience", who="torture", identity=identity(connection, None), url=self.receiver.url,
                sources=SOURCES,
            )  # fmt: skip
        self.receiver.secret = str(made.secret)
        self._thread = threading.Thread(target=self._come_and_go, daemon=True)
        self._thread.start()

    def be_calm(self) -> None:
        """From now on it takes everything at once."""
        self._calm.set()
        self._thread.join()

    def close(self) -> None:
        """End it."""
        self.be_calm()
        self.receiver.close()

    def complaints(self, tell: Tell) -> list[str]:
        """Whatever it was told wrongly, or not at all."""
        until = time.monotonic() + TAKEN_WITHIN_S
        with self._stage.connect() as connection:
            while (waiting := _number(connection.execute(WAITING).fetchone())) and time.monotonic() < until:
                time.sleep(0.2)
            outcomes = {(source, item): kind for source, item, kind in connection.execute(OUTCOMES.encode()).fetchall()}
        taken = list(self.receiver.taken)
        tell(f"events: asked {len(self.receiver.asked)} times, took {len(taken)}")
        last = {(str(each.data.get("source")), each.item): each for each in taken if each.item}
        wrong = [f"{waiting} events wait for a receiver that takes them"] if waiting else []
        wrong += [f"a signature is wrong: {each}" for each in self.receiver.refused]
        wrong += [f"events of {each} came in another order" for each in self._disorder(taken)]
        for key in sorted(outcomes.keys() | last.keys()):
            told, is_so = last.get(key), outcomes.get(key, "item.deleted")
            if (told.type if told else "item.deleted") != is_so:
                wrong.append(f"{key}: the last event is {told and (told.type, told.data)}, and it is {is_so}")
        return wrong[:TOLD]

    @staticmethod
    def _disorder(taken: list[Message]) -> list[tuple[str, str]]:
        newest: dict[tuple[str, str], int] = {}
        found = []
        for each in taken:
            key = str(each.data.get("source")), each.item
            if each.item and each.data["version"] < newest.get(key, 0):
                found.append(key)
            newest[key] = max(newest.get(key, 0), each.data["version"])
        return found

    def _answer(self, message: Message) -> Reply:
        if self._calm.is_set():
            return Reply()
        replies = (Reply(), Reply(wait_s=0.2), Reply(500), Reply(dies=True), Reply(500, wait_s=1.5))
        return self._dice.choices(replies, (85, 5, 4, 4, 2))[0]

    def _come_and_go(self) -> None:
        while not self._calm.wait(self._dice.uniform(2, 8)):
            with self.receiver.away():
                self._calm.wait(self._dice.uniform(0.1, 4))


def _number(row: tuple[int] | None) -> int:
    return row[0] if row else 0
