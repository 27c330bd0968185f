"""A case: a program of its own, with queues that nobody else has."""

import os
import time

CASES = {}
# For whatever must happen soon; long, since machines are busy.
SOON = 60
# The briefest that there is: what was neither acknowledged nor renewed comes again after it.
LOCK_SECONDS = 5


def case(function):
    CASES[function.__name__] = function
    return function


def options(**more):
    """The transport's, for this case."""
    return {
        "queue_name_prefix": f"{os.environ['MENTE_CASE']}-",
        "peek_lock_seconds": LOCK_SECONDS,
        "wait_time_seconds": 1,
        **more,
    }


def same(is_so, wanted):
    assert is_so == wanted, f"{is_so!r} where {wanted!r} belongs"


def eventually(get, wanted):
    """Asks until the answer is the wanted one."""
    until = time.monotonic() + SOON
    while (answer := get()) != wanted:
        assert time.monotonic() < until, f"{answer!r} where {wanted!r} was to come"
        time.sleep(0.1)
