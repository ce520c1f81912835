"""Explanations: when and where in a clip the score of a probe comes from."""
