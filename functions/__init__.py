"""Ready-made analysis functions; register them or copy them."""
