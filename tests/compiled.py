"""One cache of compiled statements for all the engines of a test session.

A process has one engine, and compiles each statement once. A test session has an engine
for almost every test; to compile everything for each took a third of its time.
"""

from typing import Any

from sqlalchemy import Engine, create_engine, event

_first: dict[str, Engine] = {}


def sharing_engine(url: Any, **options: Any) -> Engine:
    """Return a new engine whose statements are those of the first that connected."""
    engine = create_engine(url, **options)
    first = _first.get(engine.name)
    if first is None:
        event.listen(
            engine, "connect", lambda *_: _first.setdefault(engine.name, engine)
        )
    else:
        # The cache is keyed by the dialect, which has no state of a connection's.
        engine.dialect = first.dialect
        engine._compiled_cache = first._compiled_cache
    return engine
