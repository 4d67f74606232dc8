"""Rows of generated worlds, in which the best answers are known."""

import torch

from mtpkdot.teachers import Rows


def two_views(people: int = 12, per_person: int = 20, classes: int = 3, seed: int = 0) -> Rows:
    """Rows of two modalities that both show the class, the second one far better."""
    random = torch.Generator().manual_seed(seed)
    count = people * per_person
    target = torch.randint(classes, (count,), generator=random)
    centres = torch.eye(classes, 6)
    values = {
        name: strength * centres[target] + torch.randn(count, 6, generator=random)
        for name, strength in (("face", 1.0), ("voice", 3.0))
    }
    return Rows.of(values, target, people=torch.arange(people).repeat_interleave(per_person))


def hidden(rows: Rows, people: int) -> Rows:
    """The rows with labels of the first people only."""
    return Rows(rows.values, rows.present, target=rows.target, labelled=rows.people < people, people=rows.people)


def parts(rows: Rows, people: int) -> tuple[Rows, Rows]:
    """The rows of the first people, and those of the others."""
    return rows.keep(rows.people < people), rows.keep(rows.people >= people)
