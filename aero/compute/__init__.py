"""Where functions run: `base` is the port; `local` and `inline` are adapters."""
