"""``python -m probes`` is the command ``probes``."""

from probes.cli import app

app()
