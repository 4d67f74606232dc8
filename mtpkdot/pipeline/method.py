"""Choice of a method by the data: of `auto`, and of a bound where nothing is hidden."""

import yaml

from mtpkdot.data.base import BaseData
from mtpkdot.modules.teaching import AUTO, BOUND, find_method
from mtpkdot.pipeline.config import Experiment


def resolve_method(experiment: Experiment) -> str:
    """Replace a method that depends on the data by the one that is trained.

    `auto` becomes `mtpkdot_plus` if training recordings lack labels, else `none`. A bound that sees hidden labels
    (`oracle`) becomes `none` if no label is hidden. The resulting method is the one that is identified, trained and
    recorded. The data are read only for these.

    Args:
        experiment: the experiment, updated in place together with its text.

    Returns:
        Sentences on the choice, and on hidden labels that are seen; empty if there is nothing to say.

    Raises:
        DataError: the data cannot be read.
    """
    sections = {name: experiment.config[name] for name in experiment.kinds}
    named = {name: kind.method_of(sections[name].get("model", {})) for name, kind in experiment.kinds.items()}
    text, said = yaml.safe_load(experiment.text), []
    for method in dict.fromkeys(named.values()):
        if method is None or (method != AUTO and not find_method(method).is_bound):
            continue
        stages = [name for name, of in named.items() if of == method]
        chosen, reason = _automatic(experiment.data) if method == AUTO else _of_bound(method, experiment.data)
        said.append(f"{', '.join(stages)}.model.method {method} {reason}")
        for name in stages if chosen != method else ():
            sections[name]["model"]["method"] = text[name]["model"]["method"] = chosen
            experiment.text = yaml.safe_dump(text, sort_keys=False)
    return "; ".join(said)


def _automatic(data: BaseData) -> tuple[str, str]:
    """Return the method that `auto` becomes, and the end of a sentence about it."""
    recordings, labelled = len(data.positions("train")), len(data.positions("train", labelled_only=True))
    if labelled < recordings:
        lacking = f"{recordings - labelled} of {recordings} training recordings have no label"
        return "mtpkdot_plus", f"is mtpkdot_plus: {lacking}"
    every = f"all {recordings} training recordings have a label, and no teacher was seen to help then"
    return "none", f"is none: {every}"


def _of_bound(method: str, data: BaseData) -> tuple[str, str]:
    """Return the method that a bound becomes, and the end of a sentence about it."""
    if hidden := int(data.hidden.sum()):
        return method, f"sees the hidden labels of {hidden} training recordings: it is {BOUND}"
    return "none", "is none: data.labelled_subjects hides no label of a training recording"
