"""Resolution of the method `auto` by the data."""

import yaml

from mtpkdot.modules.teaching import AUTO
from mtpkdot.pipeline.config import Experiment


def resolve_method(experiment: Experiment) -> str:
    """Replace the method `auto`: by `mtpkdot_plus` if training recordings lack labels, else by `none`.

    The resolved method is the one that is identified, trained and recorded. The data are read only for `auto`.

    Args:
        experiment: the experiment, updated in place together with its text.

    Returns:
        A sentence on the choice; empty if the method was named.

    Raises:
        DataError: the data cannot be read.
    """
    sections = {name: experiment.config[name] for name in experiment.kinds}
    open_ = [name for name, kind in experiment.kinds.items() if kind.method_of(sections[name].get("model", {})) == AUTO]
    if not open_:
        return ""
    data = experiment.data
    recordings, labelled = len(data.positions("train")), len(data.positions("train", labelled_only=True))
    method = "mtpkdot_plus" if labelled < recordings else "none"
    text = yaml.safe_load(experiment.text)
    for name in open_:
        sections[name]["model"]["method"] = text[name]["model"]["method"] = method
    experiment.text = yaml.safe_dump(text, sort_keys=False)
    reason = f"{recordings - labelled} of {recordings} training recordings have no label"
    if method == "none":
        reason = f"all {recordings} training recordings have a label, where no teacher was seen to help"
    return f"{', '.join(open_)}.model.method auto is {method}: {reason}"
