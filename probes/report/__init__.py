"""One self-contained HTML page: what it holds, how it is drawn, where it comes from."""
