"""Usual names of columns, by their content."""

import re
from collections.abc import Iterable

# Names as `plain` returns them; preferred ones first.
IDS = ("id", "sampleid", "sample", "clipid", "clip", "recordingid", "recording", "filename", "file", "name")
SUBJECTS = ("subject", "subjectid", "subj", "participant", "participantid", "person", "personid", "patient", "speaker")
SPLITS = ("split", "part", "partition", "set", "subset", "fold")
TARGETS = ("valence", "arousal", "dominance", "target", "label", "class", "emotion", "expression", "pain", "stress")


def plain(name: object) -> str:
    """Return a name in lower case, with letters and digits alone: `Subject ID` is `subjectid`."""
    return re.sub(r"[^a-z0-9]", "", str(name).casefold())


def no_features(columns: Iterable[str], named: Iterable[str | None]) -> set[str]:
    """Return the columns of a manifest that hold ids, parts or targets, as `written` returns them.

    Args:
        columns: all columns of the manifest.
        named: columns that a config names for such a role; None for a missing one.
    """
    usual = {name for name in columns if plain(name) in (*SUBJECTS, *SPLITS, *TARGETS)}
    return {written(name) for name in usual | ({*named} & {*columns}) if name is not None}


def written(name: object) -> str:
    """Return a name without surrounding spaces and in lower case, as column names are compared."""
    return str(name).strip().casefold()
