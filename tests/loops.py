"""Many cases in one test: each case costs what it computes, and no collection, fixtures and report of its own."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

Test = Callable[..., None]


def over(names: str, cases: Iterable[Any]) -> Callable[[Test], Test]:
    """Run a test on each case in turn; the error of the first that fails names it.

    For cases that share all fixtures; `pytest.mark.parametrize` has the same arguments and makes one test of each case.

    Args:
        names: the test's arguments that a case is for, separated by commas.
        cases: a value each, or a tuple of them where there are several names.
    """
    keys = [name.strip() for name in names.split(",")]
    given = [dict(zip(keys, case if len(keys) > 1 else (case,), strict=True)) for case in cases]
    assert given, f"no case of {names}"

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            for number, case in enumerate(given, start=1):
                try:
                    test(**case, **fixtures)
                except Exception as error:
                    told = ", ".join(f"{name}={value!r}" for name, value in case.items())
                    error.add_note(f"in case {number} of {len(given)}: {told}")
                    raise

        signature = inspect.signature(test)
        assert set(keys) <= set(signature.parameters), f"{test.__name__} does not take {names}"
        kept = [parameter for name, parameter in signature.parameters.items() if name not in keys]
        run.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
        return run

    return decorate
