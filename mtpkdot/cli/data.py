"""`mtpkdot data VERB ...`: preparation of data sets."""

from collections.abc import Callable, Sequence
from importlib import import_module

from mtpkdot.errors import ConfigError

# Verb -> (module and function, help line).
VERBS: dict[str, tuple[str, str]] = {
    "check": ("mtpkdot.cli.data_media:check", "report what is present, missing or broken in a data set"),
    "prepare": ("mtpkdot.cli.data_media:prepare", "read raw recordings once, into a compact store"),
    "synthesize": ("mtpkdot.cli.data_synthesize:synthesize", "write a generated twin of a gated data set"),
    "import": ("mtpkdot.cli.data_import:convert", "make manifest and feature files from a known data set"),
}


def data(argv: Sequence[str]) -> int | None:
    """Run `mtpkdot data ...`."""
    if not argv or argv[0] in ("-h", "--help"):
        if not argv:
            raise ConfigError(f"no data verb is given, one of {', '.join(VERBS)}", "See `mtpkdot data --help`.")
        print(usage())
        return None
    if argv[0] not in VERBS:
        raise ConfigError(
            f"there is no data verb {argv[0]!r}", f"Choose from {', '.join(VERBS)}; see `mtpkdot data --help`."
        )
    module, _, function = VERBS[argv[0]][0].partition(":")
    verb: Callable[[Sequence[str]], int | None] = getattr(import_module(module), function)
    return verb(argv[1:])


def usage() -> str:
    """Return the help text."""
    lines = [f"  {name:<10} {text}" for name, (_, text) in VERBS.items()]
    return "\n".join(["usage: mtpkdot data VERB ...", "", *lines, "", "`mtpkdot data VERB --help` shows more."])
