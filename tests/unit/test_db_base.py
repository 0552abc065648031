"""Column types: times are aware UTC whichever database keeps them."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, MetaData, Table, create_engine, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import StatementError
from sqlalchemy.schema import CreateTable

from aero.db.base import Base, UtcDateTime
from aero.db.models import Flow, Run

zones = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(
    lambda offset: timezone(timedelta(minutes=offset // timedelta(minutes=1)))
)
moments = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=zones)  # noqa: DTZ001 - hypothesis adds the zone


@given(
    moment=moments, dialect=st.sampled_from([sqlite.dialect(), postgresql.dialect()])
)
def test_a_time_comes_back_as_the_same_moment_in_utc(moment, dialect) -> None:  # type: ignore[no-untyped-def]
    kind = UtcDateTime()
    stored = kind.process_bind_param(moment, dialect)
    back = kind.process_result_value(stored, dialect)
    assert back == moment
    assert back.tzinfo is UTC


@given(first=moments, second=moments)
def test_what_sqlite_keeps_sorts_as_the_moments_do(first, second) -> None:  # type: ignore[no-untyped-def]
    kind = UtcDateTime()
    stored = [kind.process_bind_param(m, sqlite.dialect()) for m in (first, second)]
    assert (stored[0] < stored[1]) == (first < second)


@pytest.mark.parametrize("dialect", [sqlite.dialect(), postgresql.dialect()])
def test_none_stays_none(dialect) -> None:  # type: ignore[no-untyped-def]
    assert UtcDateTime().process_bind_param(None, dialect) is None
    assert UtcDateTime().process_result_value(None, dialect) is None


def test_a_naive_time_is_refused_by_the_statement() -> None:
    table = Table("t", MetaData(), Column("at", UtcDateTime()))
    engine = create_engine("sqlite://")
    try:
        with engine.begin() as tx:
            table.create(tx)
            with pytest.raises(StatementError, match="naive: give an aware time"):
                tx.execute(insert(table).values(at=datetime(2026, 1, 1)))  # noqa: DTZ001
            tx.execute(insert(table).values(at=datetime(2026, 1, 1, tzinfo=UTC)))
            assert tx.execute(select(table)).scalar_one() == datetime(
                2026, 1, 1, tzinfo=UTC
            )
    finally:
        engine.dispose()


@pytest.mark.parametrize(
    ("dialect", "kind"), [(sqlite.dialect(), "JSON"), (postgresql.dialect(), "JSONB")]
)
def test_json_is_the_best_the_database_has(dialect, kind) -> None:  # type: ignore[no-untyped-def]
    create = str(CreateTable(Flow.__table__).compile(dialect=dialect))
    assert f"kwargs {kind} NOT NULL" in create
    create = str(CreateTable(Run.__table__).compile(dialect=dialect))
    assert f"event {kind}," in create


def test_every_constraint_and_index_has_a_name_a_migration_can_use() -> None:
    for table in Base.metadata.tables.values():
        assert all(constraint.name for constraint in table.constraints)
        assert all(index.name for index in table.indexes)
        names = [str(item.name) for item in (*table.constraints, *table.indexes)]
        assert all(len(name) <= 63 for name in names)


def test_only_the_dialect_in_use_is_imported() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, aero.app; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.split()
    assert "sqlalchemy" in loaded
    assert "sqlalchemy.dialects.postgresql" not in loaded
