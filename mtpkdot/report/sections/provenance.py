"""Section on provenance: versions, configurations, durations, and missing results."""

import json
from collections.abc import Iterable, Mapping, Sequence

from mtpkdot.report.gather import Entry, Gathered, reason_of
from mtpkdot.report.page import Block, Heading, Listing, Table, Text
from mtpkdot.report.sections.training import Trainings, noted, without_log


def ran(gathered: Gathered, of_settings: dict[str, Trainings]) -> list[Block]:
    """Return versions, sizes, times, and one configuration in full."""
    models = list(gathered.models.values())
    versions = sorted({json.dumps(model.record["versions"]) for model in models})
    protocols = sorted({str(model.record["protocol"]) for model in models})
    seeds, folds = sorted({key[3] for key in gathered.models}), sorted({key[2] for key in gathered.models})
    _, draws, starts = gathered.repetitions
    sentences = [
        f"Protocol: {', '.join(protocols)}. Task: {gathered.task} of {', '.join(gathered.targets)}; the student sees "
        f"{gathered.prevalent}. Folds: {_range(folds)}. Seeds: {_range(seeds)} (draws: {draws}, starts of each: "
        f"{starts}).",
        "Versions: " + "; ".join(", ".join(f"{k} {v}" for k, v in json.loads(text).items()) for text in versions) + ".",
    ]
    sentences += noted(of_settings)
    blocks: list[Block] = [Heading("What ran", 3), *(Text(text) for text in sentences)]
    sizes = [["setting", "part", "samples", "labelled"]]
    for setting in gathered.settings:
        record = next(model.record for key, model in gathered.models.items() if key[0] == setting)
        sizes += [
            [setting, part, str(n), str(record["labelled"].get(part, ""))] for part, n in record["samples"].items()
        ]
    blocks.append(Table(sizes, "Samples of the first fold and seed."))
    times = [["setting", "model", "trainings", "epochs", "epoch kept", "time each", "time together"]]
    for setting, trainings in of_settings.items():
        for name, of in trainings.items():
            records = [training.record["trained"] for training in of if training.record]
            seconds = [record["seconds"] for record in records]
            epochs = sum(record["epochs"] for record in records) / max(len(records), 1)
            kept = [record["kept"] for record in records if "kept" in record]
            spent = [f"{sum(seconds) / len(seconds):.1f} s", _duration(sum(seconds))] if seconds else ["unknown"] * 2
            chosen = f"{sum(kept) / len(kept):.0f}" if kept else ""
            times.append([setting, name, str(len(of)), f"{epochs:.0f}", chosen, *spent])
    blocks.append(Table(times, "Training time per stage."))
    config = models[0].entry.folder / "config.yaml"
    if config.is_file():
        blocks.append(Listing(f"Configuration of {models[0].entry.place}", config.read_text()))
    return blocks


def absent(entries: Iterable[Entry], of_settings: Mapping[str, Trainings] | None = None) -> list[Block]:
    """Return the places without results and the reasons, and the trainings without curves.

    Args:
        entries: the runs.
        of_settings: trainings of the runs, by setting.
    """
    of_reasons: dict[str, list[str]] = {}
    for entry in (entry for entry in entries if not entry.finished):
        of_reasons.setdefault(reason_of(entry), []).append(entry.place)
    blocks: list[Block] = [Heading("What is missing", 3)]
    lines = [[place, reason] for reason, places in of_reasons.items() for place in places]
    if lines:
        caption = f"{len(lines)} runs without results. All numbers above are without them."
        blocks.append(Table([["run", "reason"], *lines], caption))
    if gone := [f"{name} ({setting})" for setting, name in without_log(of_settings or {})]:
        blocks.append(Text(f"Learning curves without some of their trainings, whose logs are gone: {', '.join(gone)}."))
    return blocks if len(blocks) > 1 else [*blocks, Text("Nothing: every run is finished.")]


def _range(numbers: Sequence[int]) -> str:
    whole = len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]} to {numbers[-1]}" if whole else ", ".join(map(str, numbers))


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
