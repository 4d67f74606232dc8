import re

from mtpkdot.report.compare import Comparison
from mtpkdot.report.gather import gather, of_study
from mtpkdot.report.page import Figure
from mtpkdot.report.sections.results import labels
from tests.report import fake


def test_labelled_people_stand_in_the_order_of_their_samples_shares_among_numbers(tmp_path, monkeypatch):
    samples = {"0.5": 30, "4": 20, "all": 48}
    of = fake.record

    def record(cell, stages, task, targets, labelled):
        return of(cell, stages, task, targets, labelled) | {"labelled": {"train": samples[labelled]}}

    monkeypatch.setattr(fake, "record", record)
    settings = {f"labelled_{count}": {"data.labelled_subjects": count} for count in samples}
    made = fake.study(tmp_path / "s", ("none", "kd"), folds=1, settings=settings)
    fake.write(made)
    gathered = gather(of_study(made))
    comparisons = [Comparison(gathered, setting) for setting in gathered.settings]
    found = {c.setting: (c.values(), c.differences(("base",))) for c in comparisons}
    (figure,) = (block for block in labels(comparisons, found) if isinstance(block, Figure))
    told = figure.alt.split("kd: ")[1]
    assert re.findall(r"(\d+ people|50% of the people|all people) [+-]", told) == [
        *("4 people", "50% of the people", "all people")
    ]
