"""The numbers that every room shares: one 25 Hz timeline, one sound rate."""

RATE_HZ = 25
"""Frames per second of the common timeline."""

SOUND_RATE_HZ = 16_000
"""Samples per second of the sound view."""

SAMPLES_PER_FRAME = SOUND_RATE_HZ // RATE_HZ
"""640 samples of sound belong to one frame."""
