"""Generated data in which the privileged signal is known to help or not."""

from mtpkdot.data import PlantedData
from mtpkdot.data.splits import Split
from mtpkdot.probe.draws import Plan
from mtpkdot.probe.findings import Findings
from mtpkdot.probe.folds import Sizes
from mtpkdot.probe.models import Question
from mtpkdot.probe.reading import read


def world(**more) -> PlantedData:
    """Data of 42 people beside the test part: 8 with labels, 17 who select. The video is weak, the signal strong."""
    own = {"subjects": 60, "samples_per_subject": 12, "steps": 1, "classes": 3, "labelled_subjects": 8}
    own |= {"video_strength": 0.6, "signal_strength": 3.0, "split": Split("holdout", test=0.3, validation=0.4)}
    return PlantedData(**own | more)


def probed(data: PlantedData, points=None, draws=2) -> Findings:
    """The findings on the data, by default with all labels there are."""
    material = read(data, "mtpkdot crossval")
    sizes = Sizes.of(material, 5)
    plan = Plan(
        material,
        Question.of(data),
        sizes=sizes,
        points=points or sizes.points(1)[-1:],
        draws=draws,
        seed=0,
    )
    return Findings(plan, plan.scores(1))
