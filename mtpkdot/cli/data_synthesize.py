"""`mtpkdot data synthesize NAME OUT`."""

import os
import shlex
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mtpkdot.cli.arguments import Parser, next_step
from mtpkdot.data.registry import DATA_SETS, TWINS
from mtpkdot.extras import require


def synthesize(argv: Sequence[str]) -> None:
    """Run the verb."""
    parser = Parser(
        prog="mtpkdot data synthesize",
        description="Write a generated twin of a gated data set: same folders, names and formats, invented people.",
    )
    names = f"{{{','.join(TWINS)}}}"
    subparsers = parser.add_subparsers(dest="name", required=True, metavar=names, parser_class=Parser)
    for name, module in TWINS.items():
        own = subparsers.add_parser(name, help=DATA_SETS[name].title)
        own.add_argument("out", type=Path, metavar="OUT", help="a new or empty folder")
        if name in argv[:1]:  # A twin is imported only when it is named.
            require("cv2")
            require("av")
            import_module(module).add_arguments(own)
        own.add_argument("--seed", type=int, default=0, help="seed of everything that is generated")
        own.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    options: dict[str, Any] = vars(parser.parse_args(argv))
    name = options.pop("name")
    with tqdm(desc=f"synthesizing {name}", unit="recording", disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        lines: list[str] = import_module(TWINS[name]).synthesize(**options, progress=progress)
    print("\n".join(lines))
    next_step(f"mtpkdot data check {name} {shlex.quote(str(options['out']))}", "decode all of it once")
