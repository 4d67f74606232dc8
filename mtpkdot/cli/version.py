"""`mtpkdot --version`: versions and devices, for a bug report."""

import os
import platform
from importlib.metadata import version


def versions() -> str:
    """Return the versions of the packages that decide a result, and the devices, one per line."""
    named = {"mtpkdot": "mtpkdot", "torch": "torch", "lightning": "lightning", "pot": "POT"}
    lines = [f"{name} {version(package)}" for package, name in named.items()]
    lines.insert(1, f"Python {platform.python_version()}")
    return "\n".join([*lines, f"devices: {', '.join(_devices())}"])


def _devices() -> list[str]:
    import torch

    cards = [f"cuda:{index} {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [f"cpu with {len(os.sched_getaffinity(0))} cores", *cards, *mps]
