"""`mtpkdot VERB ...`: a table of verbs, each imported only when it is called.

Importing torch takes seconds; `mtpkdot --help` must not.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType

from mtpkdot.errors import Terminated, UserError, nearest
from mtpkdot.files import ADVICE
from mtpkdot.trust import one_call, without_flags

Verb = Callable[[Sequence[str]], int | None]

# Verb -> (module and function, help line).
VERBS: dict[str, tuple[str, str]] = {
    "demo": ("mtpkdot.cli.demo:demo", "the first run: from generated raw video to a report"),
    "init": ("mtpkdot.cli.init:init", "write a config for feature files of your own"),
    "probe": ("mtpkdot.cli.probe:probe", "estimate in seconds what each modality is worth, and whether teachers pay"),
    "fit": ("mtpkdot.cli.experiment:fit", "train every stage of an experiment and evaluate them"),
    "stage": ("mtpkdot.cli.experiment:stage", "train one stage, taking the earlier ones from earlier runs"),
    "validate": ("mtpkdot.cli.experiment:validate", "evaluate a run again on its validation part"),
    "test": ("mtpkdot.cli.experiment:test", "evaluate a run again on its test part"),
    "crossval": ("mtpkdot.cli.crossval:crossval", "compare methods over folds and seeds"),
    "report": ("mtpkdot.cli.report:report", "tables and figures of runs and studies, in one file"),
    "data": ("mtpkdot.cli.data:data", "check, prepare, synthesize or import a data set"),
}

# Errors of the disk that no other part of the program has reported; other errors keep their traceback.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

USER_ERROR = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb.

    Args:
        argv: arguments after the name of the program; those of the process if None.

    Returns:
        0 for success; 1 if the data have an error, a training has diverged or a part of the work has failed; 2 for a
        mistake in the call or the config; 143 after SIGTERM and SIGUSR1.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if argv else USER_ERROR
    if argv[0] == "--version":
        from mtpkdot.cli.version import versions

        print(versions())
        return 0
    if argv[0] not in VERBS:
        meant = nearest(argv[0], VERBS)
        return _complain(f"there is no verb {argv[0]!r}. {meant}Choose from {', '.join(VERBS)}; see `mtpkdot --help`.")
    module, _, function = VERBS[argv[0]][0].partition(":")
    before = {signum: signal.signal(signum, _terminate) for signum in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        rest, trusted = without_flags(argv[1:])
        with one_call(trusted):
            verb: Verb = getattr(import_module(module), function)
            return verb(rest) or 0
    except UserError as error:
        return _complain(str(error), error.code)
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror}. {ADVICE[error.errno]}; what is finished is not lost.")
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            # The Trainer has cleaned up and replaced Ctrl-C by an exit code of its own.
            raise KeyboardInterrupt from stop
        # --help and --print_config end this way, and so does SIGTERM.
        return stop.code if isinstance(stop.code, int) else 0
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def usage() -> str:
    """Return the help text."""
    lines = [f"  {name:<9} {text}" for name, (_, text) in VERBS.items()]
    return "\n".join(
        [
            "usage: mtpkdot VERB ...",
            "",
            "Privileged multi-teacher knowledge distillation with optimal transport.",
            "",
            *lines,
            "",
            "`mtpkdot VERB --help` lists the arguments of a verb, `mtpkdot --version` the versions and devices.",
            "All verbs take `--trust my_project`, which lets runs and checkpoints of others import its classes;",
            "without it they import those of mtpkdot, torch and lightning alone.",
        ]
    )


def entry() -> None:
    """Run the console script."""
    # Classes in the working directory can be named in a config, as with `python -m`.
    # Appended, so that a file queue.py in that directory does not shadow the one that libraries import.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        code = main()
        sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError:  # `mtpkdot fit --help student | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except KeyboardInterrupt:
        print("Interrupted; the same command continues where it stopped.", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def _complain(message: str, code: int = USER_ERROR) -> int:
    print(f"mtpkdot: error: {message}", file=sys.stderr)
    return code


def _terminate(signum: int, frame: FrameType | None) -> None:
    """Exit at once; during training steps the handlers of `mtpkdot.pipeline.preemption` replace this one."""
    raise Terminated(signum)
