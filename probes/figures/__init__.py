"""Figures: one file for each."""
