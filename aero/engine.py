"""Drives scheduler and dispatcher: in the background, or until something holds."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor

from sqlalchemy import Connection

from aero.config import ClientConf
from aero.db.changes import Topic
from aero.db.queries import flows as flow_queries
from aero.db.queries import runs as run_queries
from aero.db.session import Database
from aero.delivery import Courier
from aero.error import DatabaseUnavailableError
from aero.runs.claiming import DispatchSettings
from aero.runs.dispatch import Dispatcher, Listener
from aero.runs.presence import Presence
from aero.scheduling import Scheduler, tick
from aero.types import LOCAL, Json

__all__ = ["Engine", "Listener"]

log = logging.getLogger(__name__)

Condition = Callable[[Connection], bool]
Hurry = Callable[[], bool]
_PATIENCE = 5.0
_BUSY_PATIENCE = 0.5
_SOON = 0.1


def _never() -> bool:
    return False


class Engine:
    """What executes the runs of a workspace in this process.

    Args:
        db: The workspace's database.
        settings: The configuration.
        storage: The location of the store that outputs go to.
        agent: Who the provenance names as having executed.
        executor: What runs functions; default: a pool of worker processes.
        listener: Is told what starts and ends here.

    Attributes:
        listeners: All who are told.
    """

    def __init__(
        self,
        db: Database,
        settings: ClientConf,
        *,
        storage: str,
        agent: str,
        executor: Executor | None = None,
        listener: Listener | None = None,
    ) -> None:
        self._db = db
        self._settings = settings
        self._storage = storage
        self._agent = agent
        self._executor = executor
        self.listeners = [] if listener is None else [listener]
        self._dispatcher: Dispatcher | None = None
        self._scheduler: Scheduler | None = None
        self._courier = Courier(db, settings)
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._deadline = 0.0
        self._hurry: Hurry = _never
        self._driving = threading.RLock()
        self._making = threading.Lock()
        self._stepped = threading.Condition()

    @property
    def running(self) -> bool:
        """Whether scheduler and dispatcher run in the background."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Run scheduler and dispatcher in the background."""
        if self._thread is not None:
            return
        self._stopping.clear()
        self._ready()
        self._db.changes.listen(self._heard)
        self._scheduler = Scheduler(self._db, self._wake_dispatcher)
        self._thread = threading.Thread(target=self._loop, name="aero-dispatcher")
        self._thread.start()
        self._scheduler.start()
        self._courier.start()

    @property
    def busy(self) -> bool:
        """Whether runs are executed here, or were claimed for it."""
        dispatcher = self._dispatcher
        return dispatcher is not None and dispatcher.busy

    def stop(self, grace: float = 0.0, *, hurry: Hurry | None = None) -> None:
        """Stop them: what runs has `grace` seconds to end, the rest is handed back.

        Nothing more is claimed, and what was claimed but does not run is handed back
        at once. So is the rest when `hurry`, asked ten times a second, says so.
        """
        self._deadline = time.monotonic() + grace
        self._hurry = hurry or _never
        self._stopping.set()
        if self._thread is not None and self._dispatcher is not None:
            self._dispatcher.claim_no_more()
        if self._scheduler is not None:
            self._scheduler.stop()
            self._scheduler = None
        if self._thread is not None:
            self._wake_dispatcher()
            self._thread.join()
            self._thread = None
        self._courier.stop(self._patient)
        self._db.changes.stop()

    def close(self) -> None:
        """Stop everything, worker processes too."""
        try:
            self.stop()
            dispatcher, self._dispatcher = self._dispatcher, None
            if dispatcher is not None:
                dispatcher.close()
        finally:
            self._courier.close()
            if self._executor is not None:
                self._executor.shutdown(cancel_futures=True)

    def wake(self, *, scheduled: bool = False) -> None:
        """Say that there may be something to run, or that due times changed."""
        if scheduled:
            self._wake_scheduler()
        self._wake_dispatcher()

    def kill(self, run_ids: Sequence[str]) -> None:
        """Stop the local work of runs that were cancelled."""
        dispatcher = self._dispatcher
        if dispatcher is not None:
            for run_id in run_ids:
                dispatcher.kill(run_id)

    def run_until(self, holds: Condition, timeout: float | None = None) -> None:
        """Execute runs until `holds`, or just wait if the background does that.

        Raises:
            TimeoutError: It did not hold within `timeout` seconds.
        """
        self._until(holds, timeout, ticking=False)

    def run_until_idle(self, timeout: float | None = None) -> None:
        """Run what is due and pending, also after its back-off, until nothing is.

        What is to be told of it is sent, too.
        """
        began = time.monotonic()
        self._until(self._idle, timeout, ticking=True)
        left = None if timeout is None else timeout - (time.monotonic() - began)
        if not self._courier.deliver(left):
            raise TimeoutError(f"Not done within {timeout} s.")

    def run_ready(self) -> None:
        """Run what is due and may start now, and leave what waits out a back-off."""
        self._until(self._nothing_ready, None, ticking=True)

    def _until(self, holds: Condition, timeout: float | None, *, ticking: bool) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        self._db.changes.listen(self._heard)
        if ticking and not self.running:
            with self._driving:
                self._ready().enter()
        while not self._db.look(holds):
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"Not done within {timeout} s.")
            left = _PATIENCE if deadline is None else deadline - time.monotonic()
            if self.running:
                with self._stepped:
                    self._stepped.wait(min(left, _BUSY_PATIENCE))
            else:
                self._drive(left, ticking=ticking)

    def idle(self, db: Database | None = None) -> bool:
        """Whether nothing is due, running, or waiting to be run here.

        Args:
            db: The database as somebody sees it, who asks for no more.
        """
        return (db or self._db).look(self._idle)

    def _idle(self, tx: Connection) -> bool:
        running, pending, _ = run_queries.waiting(tx, self.endpoints)
        return not running and not pending and not self._due(tx)

    def _nothing_ready(self, tx: Connection) -> bool:
        running, pending, earliest = run_queries.waiting(tx, self.endpoints)
        ready = pending and earliest is not None and earliest <= self._db.now(tx)
        return not running and not ready and not self._due(tx)

    def _due(self, tx: Connection) -> bool:
        nearest = flow_queries.next_due(tx)
        return nearest is not None and nearest <= self._db.now(tx)

    @property
    def endpoints(self) -> list[str]:
        """The endpoints whose runs this process executes."""
        return [LOCAL]

    def _drive(self, patience: float, *, ticking: bool) -> None:
        with self._driving:
            dispatcher = self._ready()
            ticked = ticking and tick(self._db)
            if ticked:
                dispatcher.wake()
            if not dispatcher.step() and not ticked:
                dispatcher.wait(min(patience, self._until_due(dispatcher)))

    def _until_due(self, dispatcher: Dispatcher) -> float:
        """Return the seconds until something changes by itself."""
        return _BUSY_PATIENCE if dispatcher.busy else self._db.look(self._ahead)

    def _ahead(self, tx: Connection) -> float:
        now = self._db.now(tx)
        moments = [run_queries.next_start(tx, now), flow_queries.next_due(tx)]
        ahead = [(m - now).total_seconds() for m in moments if m is not None]
        return max(0.0, min([s for s in ahead if s > 0], default=_PATIENCE))

    def _loop(self) -> None:
        with self._driving, self._db.outages.enduring(self._stopping):
            dispatcher = self._ready()
            while not self._stopping.is_set():
                self._survive(lambda: self._pass(dispatcher))
            self._survive(dispatcher.let_go)
            while dispatcher.busy and self._patient():
                self._survive(lambda: dispatcher.finish(_SOON))
            self._hand_back(dispatcher)

    def _patient(self) -> bool:
        return time.monotonic() < self._deadline and not self._hurry()

    def _survive(self, work: Callable[[], None]) -> None:
        try:
            work()
        except DatabaseUnavailableError as error:
            log.warning("%s", error)
            time.sleep(_SOON)
        except Exception:
            # A dispatcher that died would leave every run waiting; what was held is
            # recovered when its lease runs out.
            log.exception("The dispatcher failed; it goes on in a moment.")
            if self._stopping.wait(1.0):
                time.sleep(_SOON)
        with self._stepped:
            self._stepped.notify_all()

    def _pass(self, dispatcher: Dispatcher) -> None:
        if not dispatcher.step():
            dispatcher.wait(self._until_due(dispatcher))

    @staticmethod
    def _hand_back(dispatcher: Dispatcher) -> None:
        try:
            dispatcher.close()
        except DatabaseUnavailableError as error:
            log.warning("Others go on with what ran here in a minute: %s", error)

    def _heard(self, topics: Collection[Topic]) -> None:
        if Topic.FLOWS in topics:
            self._wake_scheduler()
        # On SQLite any commit may be about them; it looks often enough.
        if Topic.NOTICES in topics and not self._db.is_sqlite:
            self._courier.wake()
        with self._stepped:
            self._stepped.notify_all()
        dispatcher = self._dispatcher
        # In the background, what ended elsewhere matters only to those who wait.
        matters = not self.running or set(topics) - {Topic.ENDED, Topic.NOTICES}
        if dispatcher is not None and matters:
            dispatcher.hear(topics)

    # Whoever stops and closes may be another thread: what is there is read once.

    def _wake_scheduler(self) -> None:
        scheduler = self._scheduler
        if scheduler is not None:
            scheduler.wake()

    def _wake_dispatcher(self) -> None:
        dispatcher = self._dispatcher
        if dispatcher is not None:
            dispatcher.wake()

    def _ready(self) -> Dispatcher:
        with self._making:
            if self._dispatcher is None:
                self._dispatcher = Dispatcher(
                    self._db,
                    {LOCAL: self._local()},
                    self._dispatch_settings(),
                    Presence(self._settings.home / "workers"),
                    listener=self._tell,
                )
            return self._dispatcher

    def ended(self, facts: Json) -> None:
        """Say that a run ended whose result came from elsewhere; stop what works on it.

        Args:
            facts: Of the run, as a listener is told them.
        """
        self.kill([facts["run_id"]])
        about = {key: facts[key] for key in ("run_id", "flow_id")}
        log.info("Run %s %s", facts["run_id"], facts["status"], extra=about)
        try:
            self._tell("ended", facts)
        except Exception:
            # What was committed stays so, whatever a listener makes of it.
            log.exception("The listener failed.", extra=about)

    def _tell(self, event: str, facts: Json) -> None:
        for listener in self.listeners:
            listener(event, facts)

    def _local(self) -> Executor:
        if self._executor is None:
            from aero.compute.local import LocalExecutor

            self._executor = LocalExecutor(
                self._settings.workers, memory_limit=self._settings.memory_per_worker
            )
        return self._executor

    def _dispatch_settings(self) -> DispatchSettings:
        conf = self._settings
        fetch: Json = {
            "allow_private_addresses": conf.private_allowed,
            "file_roots": [str(root) for root in conf.readable_roots],
            "max_size": conf.max_download,
            "timeout": conf.http_timeout,
        }
        return DispatchSettings(
            storage=self._storage,
            scratch=conf.scratch,
            agent=self._agent,
            fetch=fetch,
            credentials=conf.credentials,
            workers=conf.workers,
            timeout=conf.timeout,
            lease=conf.lease,
            heartbeat=conf.heartbeat,
        )
