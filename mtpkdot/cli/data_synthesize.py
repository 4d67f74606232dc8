"""`mtpkdot data synthesize {biovid,affwild2} OUT`."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from mtpkdot.cli.arguments import Parser, next_step
from mtpkdot.extras import require


def synthesize(argv: Sequence[str]) -> None:
    """Run the verb."""
    parser = Parser(
        prog="mtpkdot data synthesize",
        description="Write a generated twin of a gated data set: same folders, names and formats, invented people.",
    )
    twins = parser.add_subparsers(dest="name", required=True, metavar="{biovid,affwild2}", parser_class=Parser)
    cores = len(os.sched_getaffinity(0))
    biovid = twins.add_parser("biovid", help="BioVid Heat Pain: face video and physiology under heat")
    biovid.add_argument("out", type=Path, metavar="OUT", help="a new or empty folder")
    biovid.add_argument("--subjects", type=int, default=8, help="people; 87 in the original")
    biovid.add_argument("--clips", type=int, default=20, help="of each person and class; 20 in the original")
    biovid.add_argument("--classes", nargs="+", default=["BL1", "PA1", "PA2", "PA3", "PA4"], help="which of them")
    biovid.add_argument("--size", type=int, default=160, help="side of the frames in pixels")
    biovid.add_argument("--part", choices=("PartA", "PartB"), default="PartA", help="PartB has facial EMG")
    biovid.add_argument(
        "--layout", choices=("official", "frames"), default="official", help="as distributed, or folders of frames"
    )
    biovid.add_argument("--expression", type=float, default=0.6, help="how plainly faces show the pain")
    biovid.add_argument("--people", choices=("all", "reactive"), default="all", help="without those who hardly react")
    affwild2 = twins.add_parser("affwild2", help="Aff-Wild2: faces and sound with valence and arousal")
    affwild2.add_argument("out", type=Path, metavar="OUT", help="a new or empty folder")
    affwild2.add_argument("--videos", type=int, default=12, help="raw videos; 594 in the original")
    affwild2.add_argument(
        "--frames", type=int, nargs=2, default=(200, 400), metavar=("MIN", "MAX"), help="frames of a video"
    )
    for twin in (biovid, affwild2):
        twin.add_argument("--seed", type=int, default=0, help="of everything invented")
        twin.add_argument("--workers", type=int, default=cores, help="processes")
    options = vars(parser.parse_args(argv))
    name = options.pop("name")
    require("cv2")
    require("av")
    with tqdm(desc=f"synthesizing {name}", unit="recording", disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        if name == "biovid":
            from mtpkdot.data.biovid.twin import synthesize as make_biovid

            lines = make_biovid(**options, progress=progress)
        else:
            from mtpkdot.data.affwild2.twin import synthesize as make_affwild2

            lines = make_affwild2(**{**options, "frames": tuple(options["frames"])}, progress=progress)
    print("\n".join(lines))
    next_step(f"mtpkdot data check {name} {shlex.quote(str(options['out']))}", "decode all of it once")
