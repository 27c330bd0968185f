"""Celery: a worker in a process of its own, and who calls it."""

import contextlib
import pathlib
import signal
import subprocess
import sys
import tempfile

from case import SOON, case, same

HERE = pathlib.Path(__file__).parent


@contextlib.contextmanager
def worker():
    """Of both queues, with all that Celery's own settings have a worker do."""
    flags = ["-P", "solo", "-Q", "celery,other", "--loglevel", "WARNING"]
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "tasks", "worker", *flags], cwd=HERE, stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(SOON)


def got(result):
    return result.get(timeout=2 * SOON)


@case
def tasks_and_their_results():
    import tasks

    with worker():
        same(got(tasks.added.delay(1, 2)), 3)
        same(got(tasks.multiplied.delay(3, 4)), 12)
        odd = "\N{SNOWMAN} \U0001f98a"
        same(got(tasks.added.delay(odd, odd)), odd + odd)
        failed = tasks.failing.delay(odd)
        try:
            raise AssertionError(f"it failed, and gave {got(failed)!r}")
        except ValueError as error:
            same(error.args, (odd,))
        same(failed.state, "FAILURE")


@case
def tasks_of_tasks():
    import celery
    import tasks

    with worker():
        same(got(celery.chain(tasks.added.s(1, 2), tasks.multiplied.s(5))()), 15)
        same(got(celery.group(tasks.added.s(n, n) for n in range(4))()), [0, 2, 4, 6])


@case
def tasks_that_are_due_later_and_tried_again():
    import tasks

    with worker():
        same(got(tasks.added.apply_async((1, 1), countdown=2)), 2)
        same(got(tasks.persistent.delay(2)), 2)


@case
def tasks_that_are_rejected():
    import tasks

    with worker(), tempfile.TemporaryDirectory() as place:
        same(got(tasks.rejecting.delay(f"{place}/times")), 2)


@case
def a_worker_that_dies_of_its_task():
    import tasks

    with tempfile.TemporaryDirectory() as place:
        with worker() as first:
            result = tasks.deadly.delay(f"{place}/times")
            same(first.wait(SOON), -signal.SIGKILL)
        with worker():
            same(got(result), "lived")
