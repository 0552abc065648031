"""Where results came from and what they led to."""
