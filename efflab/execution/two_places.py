"""Runs what reads files of the user where the driver is, and everything else elsewhere."""

from __future__ import annotations

from efflab.contracts.executor import Done, Executor, Job, Progress, Resources

ANY = Resources()


class TwoPlaces:
    """An executor of two: jobs that must be at home go to `home`, all others to `away`."""

    def __init__(self, home: Executor, away: Executor):
        self.home, self.away = home, away
        self.running: dict[str, Executor] = {}

    def free(self, wanted: Resources = ANY) -> int:
        """Return how many more jobs that want this it takes now."""
        return (self.home if wanted.home else self.away).free(wanted)

    def submit(self, job: Job) -> None:
        """Start a job in its place."""
        place = self.home if job.resources.home else self.away
        self.running[job.stage_id] = place
        place.submit(job)

    def wait(self) -> list[Done | Progress]:
        """Return what has happened in the places that are at work."""
        places = [place for place in (self.home, self.away) if place in self.running.values()]
        events = [event for place in places for event in place.wait()]
        for event in events:
            if isinstance(event, Done):
                del self.running[event.stage_id]
        return events

    def close(self) -> None:
        """Stop everything in both."""
        self.home.close()
        self.away.close()
