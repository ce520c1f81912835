"""Two small datasets of talking portraits, and the whole path over them: run ``python -m demo.run``."""
