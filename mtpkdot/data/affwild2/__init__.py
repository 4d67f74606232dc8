"""Aff-Wild2, valence-arousal track: DataModule, layout on disk, generated twin."""
