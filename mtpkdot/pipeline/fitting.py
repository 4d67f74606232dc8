"""Training of an experiment from Python."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtpkdot.pipeline.config import parse, parse_content
from mtpkdot.pipeline.notices import quieten
from mtpkdot.pipeline.runner import Run
from mtpkdot.trust import one_call, without_flags


def fit(config: str | Path | Mapping[str, Any], *overrides: str) -> Path:
    """Train every stage of an experiment and evaluate them, as `mtpkdot fit --config CONFIG` does.

    Trained stages are not trained again, and interrupted ones continue.

    Args:
        config: path of a config, or its content as nested mappings.
        overrides: options of the command line, e.g. `"--student.fit.max_epochs=5"`.

    Returns:
        The folder of the run, with `results.json`, `results.md` and `predictions.parquet`; `mtpkdot.load` loads its
        student.

    Raises:
        UserError: the config or the data have an error, or a training has diverged; the message is one line.

    Example:
        >>> run = mtpkdot.fit("configs/planted.yaml", "--pipeline.root=runs")  # doctest: +SKIP
        >>> student = mtpkdot.load(run)  # doctest: +SKIP
    """
    options, trusted = without_flags(overrides)
    with one_call(trusted), warnings.catch_warnings():
        quieten()
        if isinstance(config, Mapping):
            experiment = parse_content("fit", config, options)
        else:
            experiment = parse("fit", [f"--config={config}", *options])
        run = Run(experiment)
        run.fit()
    return run.folder
