"""StressID: the feature tables that its authors publish (Chaptoukaev et al., NeurIPS 2023 Datasets and Benchmarks).

The target is the task of the recording, from its id `<person>_<Task>`; it is not felt stress.
"""

from pathlib import Path

import pandas as pd

from mtpkdot.data.tables.published import check_source
from mtpkdot.data.tables.reading import read_table
from mtpkdot.errors import DataConfigError, DataError

VIDEO = "video11tasks_aus_gaze_mean_std.csv"
PHYSIOLOGY = "all_physiological_features.csv"
AUDIO = "HCfeatures.csv"

# The others reveal the task, above all by the length of the recording.
# fmt: off
SAFE_PHYSIOLOGY = [
    "meanHR", "sdHR", "meanNN", "SDSD", "CVNN", "SDNN", "RMSSD", "medianNN", "q20NN", "q80NN", "SD1", "SD2",
    "SD1SD2", "rLF", "rHF", "meanRR", "sdRR", "meanBB", "SDSDb", "CVNNb", "SDNNb", "RMSSDb", "medianBB", "q20BB",
    "q80BB", "meanTT", "SDTT", "medianTT", "q20TT", "q80TT", "meanBA", "SDBA", "medianBA", "q20BA", "q80BA",
    "ku_rsp", "sk_rsp", "ku_ecg", "sk_ecg", "ku_eda", "sk_eda", "mean_scr", "sd_scr", "mean_scl", "sd_scl",
    "meanAmpSCR",
]
# fmt: on


def convert(source: Path | None, out: Path) -> list[str]:
    """Write video, physiology and audio features, and the manifests of all tasks and of the talking ones.

    Args:
        source: folder with the three tables.
        out: folder of `manifest.csv` (recordings with video and physiology), `manifest_talking.csv` (those with audio
            too), `video.csv`, `physiology.csv` (46 columns) and `audio.csv`.

    Returns:
        A line for each written file.

    Raises:
        DataError: a table is missing or lacks a column.
    """
    if source is None:
        raise DataConfigError("StressID needs the folder of its tables", "Call `mtpkdot data import stressid SRC OUT`.")
    check_source(source, (VIDEO, PHYSIOLOGY, AUDIO), "stressid")
    video = read_table(source / VIDEO, ["id"])
    physiology = read_table(source / PHYSIOLOGY, ["Unnamed: 0"]).rename(columns={"Unnamed: 0": "id"})
    missing = [name for name in ["id", *SAFE_PHYSIOLOGY] if name not in physiology.columns]
    if missing:
        raise DataError(f"{source / PHYSIOLOGY} has no column {missing[0]!r}", "Take the table as published.")
    audio = pd.read_csv(source / AUDIO, header=None)
    audio.columns = pd.Index(["id", *(f"audio{i:03d}" for i in range(1, audio.shape[1]))])
    audio["id"] = audio["id"].str.removesuffix(".wav")

    ids = video["id"][video["id"].isin(physiology["id"])].sort_values()
    manifest = pd.DataFrame({"id": ids, "subject": ids.str.split("_").str[0], "task": ids.str.split("_").str[1]})
    talking = manifest[manifest["id"].isin(audio["id"])]
    manifest.to_csv(out / "manifest.csv", index=False)
    talking.to_csv(out / "manifest_talking.csv", index=False)
    video.to_csv(out / "video.csv", index=False)
    physiology[["id", *SAFE_PHYSIOLOGY]].to_csv(out / "physiology.csv", index=False)
    audio.to_csv(out / "audio.csv", index=False)
    return [
        f"manifest.csv: {len(manifest)} recordings of {manifest['subject'].nunique()} people, "
        f"{manifest['task'].nunique()} tasks, with video and physiology",
        f"manifest_talking.csv: {len(talking)} recordings, {talking['task'].nunique()} tasks, with audio too",
    ]
