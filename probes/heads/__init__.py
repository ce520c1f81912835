"""The heads: each a small file with its formula."""
