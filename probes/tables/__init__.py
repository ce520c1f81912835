"""Tables: one file for each, rows in, Markdown out."""
