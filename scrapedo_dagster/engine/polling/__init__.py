"""Which jobs have ended."""
