"""Measurements: each file compares us with a named baseline in one run, both sides interleaved."""
