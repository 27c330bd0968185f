"""An application of Celery, as its own worker has it and as its callers do."""

import os
import signal

from celery import Celery
from celery.exceptions import Reject

from case import options

app = Celery("tasks", broker=os.environ["MENTE_KOMBU"], backend="rpc://")
app.conf.update(
    broker_transport_options=options(),
    task_acks_late=True,
    # Else Celery acknowledges what its worker died of.
    task_reject_on_worker_lost=True,
    task_routes={"tasks.multiplied": "other"},
    worker_prefetch_multiplier=1,
)


@app.task
def added(one, other):
    return one + other


@app.task
def multiplied(one, other):
    return one * other


@app.task(bind=True, max_retries=3)
def persistent(self, failures):
    if self.request.retries < failures:
        raise self.retry(countdown=0)
    return self.request.retries


@app.task
def failing(words):
    raise ValueError(words)


@app.task
def rejecting(place):
    """Its first two times; it says how often it came before."""
    before = counted(place)
    if before < 2:
        raise Reject("not yet", requeue=True)
    return before


@app.task
def deadly(place):
    """Its worker ends with it, once."""
    if counted(place) == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return "lived"


def counted(place):
    with open(place, "a+b") as file:
        before = file.tell()
        file.write(b".")
    return before
