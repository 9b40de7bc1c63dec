"""The `arbiter` command: `main.py` starts every process and answers every question."""
