"""The database: tables, sessions, and named queries that never commit."""
