"""Usual names of columns, by what they hold."""

import re
from collections.abc import Iterable

# Names as `plain` writes them; those at the front first.
IDS = ("id", "sampleid", "sample", "clipid", "clip", "recordingid", "recording", "filename", "file", "name")
SUBJECTS = ("subject", "subjectid", "subj", "participant", "participantid", "person", "personid", "patient", "speaker")
SPLITS = ("split", "part", "partition", "set", "subset", "fold")
TARGETS = ("valence", "arousal", "dominance", "target", "label", "class", "emotion", "expression", "pain", "stress")


def plain(name: object) -> str:
    """Return a name in lower case, its letters and digits alone: `Subject ID` is `subjectid`."""
    return re.sub(r"[^a-z0-9]", "", str(name).casefold())


def no_features(columns: Iterable[str], named: Iterable[str | None]) -> set[str]:
    """Return the columns of a manifest that say who, where or what a sample is, as `written` writes them.

    Args:
        columns: all of the manifest.
        named: those that a config names for that; None for one that it does not have.
    """
    usual = {name for name in columns if plain(name) in (*SUBJECTS, *SPLITS, *TARGETS)}
    return {written(name) for name in usual | ({*named} & {*columns}) if name is not None}


def written(name: object) -> str:
    """Return a name without spaces around it and in lower case, as names of columns are compared."""
    return str(name).strip().casefold()
