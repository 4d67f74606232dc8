"""Entry point of `python -m mtpkdot`."""

import os
import sys

# Python puts the working directory first, so that a file queue.py in it would be imported by the libraries.
if not sys.flags.safe_path and sys.path[0] == os.getcwd():  # noqa: PTH109 - pathlib is such a library
    sys.path.append(sys.path.pop(0))

from mtpkdot.cli.main import entry

if __name__ == "__main__":
    entry()
