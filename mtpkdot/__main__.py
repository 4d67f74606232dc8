"""`python -m mtpkdot`."""

from mtpkdot.cli.main import entry

if __name__ == "__main__":
    entry()
