"""`mtpkdot data check` and `mtpkdot data prepare`."""

import shlex
from collections.abc import Sequence

from mtpkdot.cli.arguments import Parser, next_step, part_of
from mtpkdot.data.base import BaseData
from mtpkdot.data.media.base import MediaData
from mtpkdot.data.registry import RAW
from mtpkdot.errors import ConfigError
from mtpkdot.pipeline.config import parse_data

NOT_READY = 1

_HELP = """usage: mtpkdot data {verb} NAME FOLDER [--data.KEY VALUE ...]
       mtpkdot data {verb} --config FILE [--data.KEY VALUE ...]

{text}

NAME is {names}, FOLDER the downloaded data. The keys are those of the data section: --data.store OUT,
--data.on_error skip, --data.prepare_workers 8, --data.part PartB ... With --config, the data section of FILE is used.
{options}"""


def check(argv: Sequence[str]) -> int | None:
    """Check a data set and print the report; return 0 if it is ready to be prepared, 1 if not."""
    if _asks_for_help(argv):
        text = (
            "Decode everything in a raw data set, or read feature files whole, and divide the samples as the split\n"
            "says. Exit code 0: ready, 1: not ready."
        )
        options = "--quick looks at names, counts and text files only; --all lists every problem."
        print(_HELP.format(verb="check", text=text, options=options, names=" or ".join(RAW)))
        return None
    from mtpkdot.data.media.check import check as inspect

    flags = {"--quick", "--all"} & set(argv)
    data = _named("check", [argument for argument in argv if argument not in flags])
    if not isinstance(data, MediaData):
        if flags:
            raise ConfigError(f"{min(flags)} is for data sets of media, not for {data.source}", "Leave it out.")
        data.check()
        print(f"ready: {data.source}: {data.summary()}")
        _suggest_fit(argv)
        return None
    report = inspect(data, decode="--quick" not in flags)
    print(f"{data.source} ({type(data).__name__})")
    for line in report.lines(most=10**9 if "--all" in flags else 40):
        print(line)
    if not report.usable:
        print("not ready: there is no usable recording. Check the folder.")
        return NOT_READY
    if report.fatal and data.on_error == "raise":
        print(
            f"not ready: {len(report.fatal)} problems affect {report.lost} recordings. Repair them, or leave "
            "these files and recordings out with --data.on_error skip."
        )
        return NOT_READY
    if report.error is not None:
        print(f"not ready: {report.error}")
        return NOT_READY
    losses = f"; {report.lost} recordings left out, {len(report.fatal)} problems" if report.fatal else ""
    print(f"ready: {report.usable} recordings{losses}")
    # With the settings of its config: another picture size or signal would make another store than that of `fit`.
    named = _with_config([argument for argument in argv if argument not in flags])
    next_step(f"mtpkdot data prepare {shlex.join(named)}", "read them once, which `fit` does otherwise")
    return None


def prepare(argv: Sequence[str]) -> None:
    """Bring the store up to date."""
    if _asks_for_help(argv):
        text = "Read raw recordings once, into a compact store. An interrupted run continues where it stopped."
        options = (
            "--part 3/10 reads one of ten parts, on any machine; the same command without --part completes the store."
        )
        print(_HELP.format(verb="prepare", text=text, options=options, names=" or ".join(RAW)))
        return
    own = Parser(prog="mtpkdot data prepare", add_help=False)
    own.add_argument("--part", default="1/1")
    named, rest = own.parse_known_args(list(argv))
    which, count = part_of(named.part)
    data = _media("prepare", rest)
    if count > 1:
        recordings, failed = data.prepare_part(which, count)
        losses = f", without {failed} that cannot be read" if failed else ""
        print(f"Part {named.part}, {recordings} recordings{losses}, is in {data.preparation.folder}")
        return
    store = data.prepared
    size = sum(path.stat().st_size for path in store.folder.rglob("*") if path.is_file())
    print(
        f"{store.folder} is ready: {len(store.index)} recordings, {size / 1e6:.1f} MB"
        + (f"; {store.losses}, listed in store.json" if store.losses else "")
    )
    _suggest_fit(argv)


def _suggest_fit(argv: Sequence[str]) -> None:
    """Print the command that runs an experiment on the data of a command line."""
    named = _with_config(argv)
    if any(word.partition("=")[0] == "--config" for word in named):
        next_step(f"mtpkdot fit {shlex.join(named)}", "train every stage")


def _with_config(argv: Sequence[str]) -> list[str]:
    """Return a command line on data in which the name of a data set is replaced by the config of that name."""
    if argv[0] not in RAW:
        return list(argv)
    return ["--config", f"configs/{argv[0]}.yaml", f"--data.root={argv[1]}", *argv[2:]]


def _asks_for_help(argv: Sequence[str]) -> bool:
    return bool(argv) and argv[0] in ("-h", "--help")


def _media(verb: str, argv: Sequence[str]) -> MediaData:
    data = _named(verb, argv)
    if not isinstance(data, MediaData):
        raise ConfigError(
            f"{type(data).__name__} has no raw recordings", f"`mtpkdot data {verb}` is for data sets of media."
        )
    return data


def _named(verb: str, argv: Sequence[str]) -> BaseData:
    named = list(argv)
    if named and not named[0].startswith("-"):
        if named[0] not in RAW:
            raise ConfigError(f"there is no data set {named[0]!r}", f"Choose from {', '.join(RAW)}.")
        if len(named) < 2 or named[1].startswith("-"):
            raise ConfigError("the folder is not named", f"Call `mtpkdot data {verb} {named[0]} FOLDER`.")
        named = ["--data", RAW[named[0]], "--data.root", named[1], *named[2:]]
    elif not named:
        raise ConfigError("no data set is named", f"Call `mtpkdot data {verb} NAME FOLDER`; see --help.")
    return parse_data(f"data {verb}", named)
