"""Events: which job or video changed. The database records them itself, whichever process made the change."""

from __future__ import annotations

from dataclasses import dataclass

from videocrafter.web.store.database import Database

_KEPT = 2000


@dataclass(frozen=True)
class Event:
    """A hint that something changed; the truth is in the other tables.

    Attributes:
        kind: "queue" (a job, the order or the pause), "progress" of a job, or "video".
        subject: id of the job or video; empty for the queue as a whole.
    """

    number: int
    kind: str
    subject: str
    step: int
    num_steps: int
    preview: int


class EventStore:
    """The events of a database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def newest(self) -> int:
        """Return the number of the newest event, 0 if there was none."""
        number: int = self.database.read("SELECT COALESCE(MAX(number), 0) FROM events")[0][0]
        return number

    def oldest(self) -> int:
        """Return the number of the oldest event that is kept, 0 if there is none."""
        number: int = self.database.read("SELECT COALESCE(MIN(number), 0) FROM events")[0][0]
        return number

    def after(self, number: int) -> list[Event]:
        """Return the events after `number`; of several about the progress of one job only the last."""
        rows = self.database.read(
            "SELECT number, kind, subject, step, num_steps, preview FROM events WHERE number > ? ORDER BY number",
            number,
        )
        events = [Event(*row) for row in rows]
        last = {(event.kind, event.subject): event.number for event in events}
        return [event for event in events if last[event.kind, event.subject] == event.number]

    def forget_old(self) -> None:
        """Remove all but the newest events."""
        with self.database.writing() as connection:
            connection.execute("DELETE FROM events WHERE number <= ?", (self.newest() - _KEPT,))
