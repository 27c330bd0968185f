"""Cases against a Service Bus, with azure-servicebus as it is published.

run.py blocking|asyncio [CASE...]: one line a case, `ok CASE` or `FAIL CASE: why`; fails if a case does.
run.py list: each case and the kinds of what it needs.
The environment has connection strings, MENTE_SERVICEBUS and MENTE_SERVICEBUS_ADMIN, and where the certificate of the
authority of both is, MENTE_SERVICEBUS_CA."""

import asyncio
import logging
import os
import sys

from azure.servicebus import AutoLockRenewer, ServiceBusClient
from azure.servicebus.aio import AutoLockRenewer as AsyncioRenewer
from azure.servicebus.aio import ServiceBusClient as AsyncioClient
from azure.servicebus.aio.management import ServiceBusAdministrationClient as AsyncioAdministration
from azure.servicebus.management import ServiceBusAdministrationClient

import administration
import locks
import messages
import queues
import refusals
import rules
import sessions
import topics
import transports
from both import Blocking
from case import CASES, Bus

# Of one case; the longest waits of its own are some locks of 5 s.
PATIENCE = 90
# They mostly wait.
AT_ONCE = 4
MODULES = (queues, locks, messages, sessions, topics, refusals, rules, administration, transports)


async def run(flavour, name):
    function = CASES[name][1]
    async with Flavour(flavour).connect() as client:
        await function(Bus(client, Flavour(flavour), name))


class Flavour:
    """One of the two clients, behind the same face."""

    def __init__(self, name):
        self.asyncio = name == "asyncio"

    def connect(self, connection=None, **options):
        connection = connection or os.environ["MENTE_SERVICEBUS"]
        # A case is to see what fails, not what a retry makes of it.
        return self.made(AsyncioClient, ServiceBusClient, connection, retry_total=0, **options)

    def administration(self):
        connection = os.environ["MENTE_SERVICEBUS_ADMIN"]
        return self.made(AsyncioAdministration, ServiceBusAdministrationClient, connection, retry_total=0)

    def made(self, one, other, connection, **options):
        if self.asyncio:
            return one.from_connection_string(connection, **options)
        return Blocking(other.from_connection_string(connection, **options))

    def renewer(self):
        return AsyncioRenewer() if self.asyncio else Blocking(AutoLockRenewer())


async def main(flavour, names):
    """How many fail."""
    seats = asyncio.Semaphore(AT_ONCE)

    async def seated(name):
        async with seats:
            return await fails(flavour, name)

    return sum(await asyncio.gather(*(seated(name) for name in names or CASES)))


async def fails(flavour, name):
    try:
        await asyncio.wait_for(run(flavour, name), PATIENCE)
        print(f"ok {name}", flush=True)
        return False
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"FAIL {name}: {why}{where(error)}", flush=True)
        return True


def where(error):
    """The innermost line of ours that led to it."""
    found, here = "", error.__traceback__
    modules = {module.__file__ for module in MODULES}
    while here:
        if here.tb_frame.f_code.co_filename in modules:
            found = f" ({os.path.basename(here.tb_frame.f_code.co_filename)}:{here.tb_lineno})"
        here = here.tb_next
    return found


if __name__ == "__main__":
    logging.getLogger("azure").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    flavour, names = sys.argv[1], sys.argv[2:]
    if flavour == "list":
        for name, (kinds, _) in CASES.items():
            print(name, *kinds)
        sys.exit()
    assert flavour in ("blocking", "asyncio"), flavour
    failed = asyncio.run(main(flavour, names))
    sys.stdout.flush()
    # Threads of a case that was given up are not waited for.
    os._exit(1 if failed else 0)
