"""What a server logs: a line of JSON for each thing that happened."""

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime

HEADER = "X-Request-ID"
request_id: ContextVar[str | None] = ContextVar("aero_request_id", default=None)
"""The request that is answered in this context."""

_FACTS = ("run_id", "flow_id", "method", "path", "status", "seconds")


class JsonLines(logging.Formatter):
    """One object a line: `time`, `level`, `logger`, `message` and what it is about.

    That is `request_id`, `run_id`, `flow_id`, of a request also `method`, `path`,
    `status` and `seconds`, and of an error its `traceback`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id.get(),
            **{name: getattr(record, name, None) for name in _FACTS},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        known = {name: value for name, value in line.items() if value is not None}
        return json.dumps(known, default=str)
