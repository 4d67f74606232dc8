"""Known data sets, made into the manifest and feature files that FeatureData reads; one file per data set."""

from pathlib import Path

# Data set -> what its files are made from; None for what comes with scikit-learn.
IMPORTERS: dict[str, str | None] = {
    "stressid": "a folder with the feature tables of https://github.com/robustml-eurecom/stressID",
    "pom": "a folder with the .h5 files of https://github.com/pliang279/MFN",
    "digits": None,
}


def advice(path: Path) -> str:
    """Return what to do where a manifest or feature file does not exist; its folder may be that of a known data set."""
    name = path.parent.name
    if name not in IMPORTERS:
        return "Correct the path, or make the file with `mtpkdot data import`."
    source = IMPORTERS[name]
    if source is None:
        return f"Make it with `mtpkdot data import {name} {path.parent}`, which downloads nothing."
    return f"Make it with `mtpkdot data import {name} SRC {path.parent}`; SRC is {source}."
