"""How long a test waits for what must come."""

PATIENCE = 90.0
"""Seconds. A machine that runs everything at once may starve a process for many; only a failing test waits it out."""
