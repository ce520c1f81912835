"""``python -m avfeat`` is the command ``avfeat``."""

from avfeat.cli import app

app()
