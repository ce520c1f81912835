"""Readers of dataset releases: one file per release, each yields manifest rows."""
