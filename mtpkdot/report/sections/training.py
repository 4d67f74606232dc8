"""Section on training: learning curves, and the selection of teachers."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from mtpkdot.pipeline.stages import STUDENT
from mtpkdot.report.compare import Comparison
from mtpkdot.report.figures import learning
from mtpkdot.report.gather import stages_of
from mtpkdot.report.logs import Training, summary, training
from mtpkdot.report.page import Block, Figure, Heading, Text

Trainings = dict[str, list[Training]]  # Model -> one training per fold and seed.


def trainings(comparison: Comparison) -> Trainings:
    """Return every training of a setting, without repetition."""
    found: dict[str, dict[str, Training]] = {}
    for (setting, *_), model in comparison.gathered.models.items():
        if setting != comparison.setting:
            continue
        variant = model.entry.variant
        for stage, folder in stages_of(model.entry, model.record):
            name = variant if stage == STUDENT else stage + (f"@{model.entry.group}" if model.entry.group else "")
            if not any(str(folder) in known for known in found.values()):
                found.setdefault(name, {})[str(folder)] = training(folder)
    return {name: list(of.values()) for name, of in found.items()}


def learnt(found: Trainings, students: Sequence[str]) -> list[Block]:
    """Return curves of every model, and the teachers that students with a choice have selected."""
    logs = {name: [t.log for t in of if t.log is not None] for name, of in found.items()}
    curves = {name: summary(of) for name, of in logs.items() if of}
    blocks: list[Block] = []
    if curves:
        blocks.append(Heading("Learning curves", 3))
        monitors = {name: _monitor(found[name]) for name in curves}
        last = {name: frame["train/loss", "mean"].dropna() for name, frame in curves.items() if "train/loss" in frame}
        text = "; ".join(f"{name} from {of.iloc[0]:.3g} to {of.iloc[-1]:.3g}" for name, of in last.items() if len(of))
        blocks.append(
            Figure(
                learning.curves(curves, monitors),
                f"Training loss and selecting value over the epochs. Training loss: {text}",
                "Training loss (solid, left axis) and the value that selects the epoch (dashed, right axis): mean and "
                "range over folds and seeds.",
            )
        )
    return [*blocks, *_teachers({name: logs[name] for name in students if logs.get(name)})]


def without_log(found: Mapping[str, Trainings]) -> list[tuple[str, str]]:
    """Return setting and model of all trainings without logs, which have no curves."""
    return [
        (setting, name)
        for setting, of in found.items()
        for name, all_of in of.items()
        if any(t.log is None for t in all_of)
    ]


def noted(found: Mapping[str, Trainings]) -> list[str]:
    """Return sentences on trainings that were cut short, or that pass on another model than their own."""
    sentences = []
    for setting, of in found.items():
        for name, all_of in of.items():
            counts = Counter(note for training in all_of for note in training.record.get("notes", []))
            sentences += [f"{setting}, {name}: {n} of {len(all_of)} trainings {note}." for note, n in counts.items()]
    return sentences


def _teachers(logs: Mapping[str, Sequence[pd.DataFrame]]) -> list[Block]:
    """Return a figure of the teachers that students have selected, and a text on the trust in teachers."""
    chosen = {name: _followed(of) for name, of in logs.items()}
    several = {name: frame for name, frame in chosen.items() if frame.shape[1] > 3}  # Three columns per teacher.
    if not several:
        text = "No student had a choice of teachers: each was taught by the joint one, or by none."
        return [Text(text)] if chosen else []
    text = "; ".join(f"{name}: {_shares(frame)}" for name, frame in several.items())
    blocks: list[Block] = [
        Heading("Which teacher was chosen", 3),
        Figure(
            learning.teachers(several),
            f"Shares of the teachers, mean over the epochs. {text}",
            "Share of each teacher by epoch, mean over folds and seeds: of the training rows that it taught; of the "
            "pool, where held-out evidence weighs teachers after a warm-up (mtpkdot_plus); or of the folds and seeds, "
            "where it chooses one (selftraining).",
        ),
    ]
    if trusted := [line for name, of in logs.items() if (line := _trust(of, name))]:
        blocks.append(
            Text(
                "Trust in the teachers over the student, from held-out evidence (mean, lowest and highest over folds "
                f"and seeds): {'; '.join(trusted)}."
            )
        )
    return blocks


def _followed(logs: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the shares of teachers; those of a pool if there are any, else those of selected teachers."""
    for prefix in ("train/share_", "train/teacher_"):
        frame = summary(logs, re.escape(prefix))
        if frame.notna().any(axis=None):
            return frame.rename(columns={n: str(n).removeprefix(prefix) for n in frame.columns.unique(0)}, level=0)
    return pd.DataFrame()


def _trust(logs: Sequence[pd.DataFrame], name: str) -> str:
    """Return the trust in outputs and structures of the teachers, as text; empty if teachers are not weighted."""
    found = []
    for what in ("output", "structure"):
        column = f"train/trust_{what}"
        # Weights that were computed once are the same in all later epochs.
        known = [log[column].dropna() for log in logs if column in log]
        ends = [float(values.iloc[-1]) for values in known if len(values)]
        if ends:
            found.append(f"{what} {sum(ends) / len(ends):.2f} ({min(ends):.2f} to {max(ends):.2f})")
    return f"{name} {', '.join(found)}" if found else ""


def _monitor(of: Sequence[Training]) -> str:
    return next((str(t.record["trained"]["monitor"]) for t in of if t.record), "train/loss")


def _shares(frame: pd.DataFrame) -> str:
    means = {str(name): frame[name, "mean"].mean() for name in frame.columns.unique(0)}
    return ", ".join(f"{name} {share:.0%}" for name, share in means.items())
