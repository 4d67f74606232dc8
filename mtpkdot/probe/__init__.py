"""Probe: what privileged modalities are worth on a data set, by models that are fitted in seconds."""
