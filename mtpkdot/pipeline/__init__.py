"""The pipeline: one command trains several stages one after another."""
