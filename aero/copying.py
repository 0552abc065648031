"""`aero db copy`: a workspace's database, row by row, into another one.

A copy is sure of three things: that the target holds nothing but rows of the source
before the first row is written, that every row was read back and compared, and that
the source did not change meanwhile. Each batch is a transaction of its own, so one that
was killed is begun again and goes on where it stopped.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row
from sqlalchemy.exc import ArgumentError, DataError

from aero.config import refuse_network_filesystem
from aero.config.settings import masked
from aero.db import schema
from aero.db.queries import claims as claim_queries
from aero.db.queries import copying as queries
from aero.db.session import Database
from aero.error import ConflictError, InvalidValueError
from aero.runs import presence
from aero.types import Json, Tell


def copy(source: str, target: str, tell: Tell = lambda *_: None) -> Json:
    """Copy the rows of a workspace into an empty database, or go on doing so.

    The source is only read. What processes say of themselves (the table `worker`) is
    not copied, all else is: runs that wait will run in the copy. The store is not
    touched; both databases refer to the same one.

    Args:
        source: The URL of the workspace's database.
        target: The URL of a database that is empty or holds a part of this copy.
        tell: Told how far it is.

    Returns:
        `source` and `target` (passwords masked), `tables` (rows by table), `rows`
        (their sum), and `copied`: how many were not there before.

    Raises:
        InvalidValueError: A URL is none of a database that can hold a workspace, or
            both name the same one.
        NotFoundError: There is no workspace in the source.
        SchemaError: A database belongs to another version of aero.
        ConflictError: Somebody works in one of them, the target is another workspace,
            or the source changed.
    """
    old, new = _database(source), _database(target)
    try:
        _refuse_same_file(old, new)
        _check_source(old)
        _prepare(old, new)
        return _Copy(old, new, tell).run()
    finally:
        old.dispose()
        new.dispose()


def _database(url: str) -> Database:
    try:
        db = Database(url)
    except ArgumentError:
        db = None
    if db is None or (db.is_sqlite and db.path is None) or not _known(db):
        raise InvalidValueError(
            f"{masked(url)!r} is no database for a workspace: write "
            "sqlite:////absolute/file.db or postgresql+psycopg://user@host/database."
        )
    return db


def _known(db: Database) -> bool:
    return db.url.get_backend_name() in {"sqlite", "postgresql"}


def _refuse_same_file(source: Database, target: Database) -> None:
    if source.path is not None and target.path is not None:
        _refuse_same(source.path.resolve() == target.path.resolve())


def _refuse_same(same: bool) -> None:
    if same:
        raise InvalidValueError(
            "Source and target are the same database: name another target."
        )


def _check_source(db: Database) -> None:
    schema.require(db)
    with db.read() as tx:
        _refuse_busy(db, tx, "copied")


def _refuse_busy(db: Database, tx: Connection, verb: str) -> None:
    alive = presence.alive(tx, db.now(tx))
    if alive:
        raise ConflictError(
            f"Somebody works in {_name(db)}, which is to be {verb}: stop 'aero work' "
            f"there, or wait {presence.ALIVE_FOR.seconds} s if it was killed.",
            alive=alive,
        )
    running = claim_queries.running_ids(tx)
    if running:
        raise ConflictError(
            f"{len(running)} runs are RUNNING in {_name(db)}, which is to be {verb}, "
            "and nobody works on them: run 'aero work --once' there first.",
            runs=sorted(running),
        )


def _prepare(source: Database, target: Database) -> None:
    """Bring an empty target's schema to head."""
    if target.path is not None:
        target.path.parent.mkdir(parents=True, exist_ok=True)
        refuse_network_filesystem(target.path.parent)
    found = schema.current(target)
    with source.read() as there, target.read() as here:
        if not source.is_sqlite and not target.is_sqlite:
            _refuse_same(queries.identity(there) == queries.identity(here))
        tables = queries.existing(here)
        if tables and found is None:
            raise ConflictError(
                f"{_name(target)} holds tables that are not aero's "
                f"({', '.join(sorted(tables))}): name an empty database."
            )
        filled = any(queries.counts(here, sorted(tables)).values())
    schema.ensure(target, upgrade_existing=not filled)
    with target.read() as here:
        _refuse_busy(target, here, "written")


def _name(db: Database) -> str:
    return masked(str(db.url))


class _Copy:
    """One copy from a source that is checked to a target that is prepared."""

    def __init__(self, source: Database, target: Database, tell: Tell) -> None:
        self._source = source
        self._target = target
        self._tell = tell

    def run(self) -> Json:
        """Compare what is there, add what is not, compare all."""
        with queries.snapshot(self._source) as tx:
            total = queries.counts(tx, queries.MODELS)
            held = self._held()
            after = {name: self._agreed(tx, name, held[name]) for name in held}
            for name, count in total.items():
                self._add(tx, name, after[name], held[name], count)
            for name, count in total.items():
                self._verify(tx, name, count)
        self._check_counts(total)
        return {
            "source": _name(self._source),
            "target": _name(self._target),
            "tables": total,
            "rows": sum(total.values()),
            "copied": sum(total.values()) - sum(held.values()),
        }

    def _held(self) -> dict[str, int]:
        with self._target.read() as tx:
            return queries.counts(tx, queries.MODELS)

    def _agreed(self, tx: Connection, name: str, held: int) -> queries.Key | None:
        """Return the key up to which the target has every row of the source.

        Raises:
            ConflictError: The target has a row that the source has not.
        """
        after, gap, seen = None, False, 0
        if not held:
            return None
        with closing(self._pairs(tx, name)) as pairs:
            while seen < held:
                mine, theirs = next(pairs)
                gap = gap or theirs is None
                if theirs is None:
                    continue
                self._compare(name, mine, theirs)
                seen += 1
                self._tell(f"comparing {name}", seen, held)
                if not gap:
                    after = queries.key_of(name, theirs)
        return after

    def _add(
        self,
        tx: Connection,
        name: str,
        after: queries.Key | None,
        done: int,
        total: int,
    ) -> None:
        rows = (dict(row._mapping) for row in queries.rows(tx, name, after))
        while batch := list(islice(rows, queries.BATCH)):
            try:
                self._target.write(partial(queries.add, name=name, batch=batch))
            except DataError as error:
                raise ConflictError(
                    f"Rows of {name} cannot be stored in {_name(self._target)} "
                    f"({str(error.orig).splitlines()[0]}): change them in the source."
                ) from error
            done += len(batch)
            self._tell(f"copying {name}", done, total)

    def _verify(self, tx: Connection, name: str, total: int) -> None:
        for done, (mine, theirs) in enumerate(self._pairs(tx, name), 1):
            self._compare(name, mine, theirs)
            self._tell(f"verifying {name}", done, total)

    def _pairs(
        self, tx: Connection, name: str
    ) -> Generator[tuple[Row[Any] | None, Row[Any] | None], None, None]:
        """Yield the rows of both tables, those of the same key together."""
        with (
            self._target.read() as there,
            closing(queries.rows(tx, name)) as source,
            closing(queries.rows(there, name)) as target,
        ):
            mine, theirs = next(source, None), next(target, None)
            while mine is not None or theirs is not None:
                order = _order(name, mine, theirs)
                yield mine if order <= 0 else None, theirs if order >= 0 else None
                if order <= 0:
                    mine = next(source, None)
                if order >= 0:
                    theirs = next(target, None)

    def _compare(
        self, name: str, mine: Row[Any] | None, theirs: Row[Any] | None
    ) -> None:
        """Raise a ConflictError unless both are there and equal."""
        if mine is None or theirs is None:
            how = "is only in the " + ("target" if mine is None else "source")
        elif wrong := differing(mine, theirs):
            how = f"differs in {', '.join(wrong)}"
        else:
            return
        (row, *_) = (each for each in (mine, theirs) if each is not None)
        key = queries.key_of(name, row)
        raise ConflictError(
            f"The row {key} of {name} {how}: {_name(self._target)} is another "
            "workspace, or the source was changed since the copy began. Name an empty "
            "database, and leave the source alone until it is copied.",
            table=name,
            key=key,
        )

    def _check_counts(self, total: dict[str, int]) -> None:
        """Raise a ConflictError if the source went on while it was copied."""
        with self._source.read() as tx:
            _refuse_busy(self._source, tx, "copied")
            now = queries.counts(tx, queries.MODELS)
        grown = [name for name in now if now[name] != total[name]]
        if grown:
            raise ConflictError(
                f"{_name(self._source)} was changed while it was copied "
                f"({', '.join(grown)}): stop what uses it, and copy it into an empty "
                "database."
            )


def _order(name: str, mine: Row[Any] | None, theirs: Row[Any] | None) -> int:
    """Return which row comes first: -1, 1, or 0 for both."""
    if mine is None or theirs is None:
        return 1 if mine is None else -1
    left, right = queries.key_of(name, mine), queries.key_of(name, theirs)
    return (left > right) - (left < right)


def differing(mine: Row[Any], theirs: Row[Any]) -> Sequence[str]:
    """Return the columns in which two rows of one table differ."""
    pairs = zip(mine._fields, mine, theirs, strict=True)
    return [field for field, a, b in pairs if not same(a, b)]


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal; PostgreSQL keeps 1e22 of a JSON as an integer."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, float) and isinstance(b, int | float):
        return a == float(b)
    if isinstance(b, float) and isinstance(a, int):
        return float(a) == b
    return bool(a == b)
