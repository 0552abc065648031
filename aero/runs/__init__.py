"""The life of a run: triggered, claimed, executed, committed."""
