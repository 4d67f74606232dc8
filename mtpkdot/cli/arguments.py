"""Parsers of the verbs that know their arguments beforehand."""

import argparse
from typing import Any

from mtpkdot.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """Tells a mistake as all verbs do, and takes no abbreviated options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter, **options)

    def error(self, message: str) -> None:  # type: ignore[override] # raises, as the base exits
        """Raise a `ConfigError`."""
        raise ConfigError(message, f"See `{self.prog} --help`.")
