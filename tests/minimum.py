"""Prints the lowest versions that pyproject.toml allows, as constraints for pip: `>=X` becomes `==X`.
`make test-min` installs these and runs the tests with them.
"""

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parent.parent / "pyproject.toml"


def constraints() -> list[str]:
    """Return one line for every requirement of the project and its extras, without those on the project itself."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = project["optional-dependencies"].values()
    requirements = [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]
    found = [re.fullmatch(r"([\w-]+)(?:\[.*\])?>=([\w.]+)(?:,<.*)?", requirement) for requirement in requirements]
    return [f"{one[1]}=={one[2]}" for one in found if one is not None]


if __name__ == "__main__":
    print("\n".join(constraints()))
