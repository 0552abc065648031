"""The REST server; `aero.server.serving` runs it beside scheduler and dispatcher."""
