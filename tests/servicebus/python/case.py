"""A case: what it needs, and words in which cases are said."""

import asyncio
import time

CASES = {}
# For whatever must happen soon; long, since machines are busy.
SOON = 30


def case(*kinds):
    """A case of the queues or topics of these kinds (tests/servicebus/entities.json), which it has to itself."""

    def register(function):
        CASES[function.__name__] = (kinds, function)
        return function

    return register


class Bus:
    """The bus as one case sees it."""

    def __init__(self, client, flavour, name):
        self.client = client
        # Makes others of the client's flavour.
        self.flavour = flavour
        self.case = name

    def name(self, kind="plain"):
        return f"{kind}.{self.case}"

    def sender(self, kind="plain"):
        return self.client.get_queue_sender(self.name(kind))

    def receiver(self, kind="plain", **options):
        return self.client.get_queue_receiver(self.name(kind), **options)

    async def send(self, message, kind="plain"):
        async with self.sender(kind) as sender:
            await sender.send_messages(message)


async def take(receiver, count):
    """Exactly so many messages, in the order in which they came."""
    taken, until = [], time.monotonic() + SOON
    while len(taken) < count:
        left = until - time.monotonic()
        assert left > 0, f"{len(taken)} of {count} messages came: {[text(message) for message in taken]}"
        taken += await receiver.receive_messages(max_message_count=count - len(taken), max_wait_time=left)
    same(len(taken), count)
    return taken


async def take_one(receiver):
    return (await take(receiver, 1))[0]


async def is_empty(receiver, wait=1):
    came = await receiver.receive_messages(max_message_count=1, max_wait_time=wait)
    same([text(message) for message in came], [])


async def listed(pages):
    return [item async for item in pages]


async def eventually(get, wanted):
    """Asks until the answer is the wanted one."""
    until = time.monotonic() + SOON
    while (answer := await get()) != wanted:
        assert time.monotonic() < until, f"{answer!r} where {wanted!r} was to come"
        await asyncio.sleep(0.1)


async def refused(error, call):
    """The call must end with an error of that very class, which is given back."""
    try:
        answer = await call
    except error as e:
        same(type(e).__name__, error.__name__)
        return e
    raise AssertionError(f"it was answered {answer!r} and not refused with {error.__name__}")


async def opened(handler):
    """Opens a sender or receiver, for a refusal at that."""
    async with handler:
        return "opened"


async def past(moment):
    """Waits until shortly behind a moment."""
    await asyncio.sleep(max(0.0, moment.timestamp() - time.time()) + 0.5)


def text(message):
    return b"".join(message.body).decode()


def texts(messages):
    return [text(message) for message in messages]


def decoded(value):
    """A text, of the bytes that the SDK gives for one; the same in maps and lists."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {decoded(key): decoded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [decoded(item) for item in value]
    return value


def same(is_so, wanted):
    assert is_so == wanted, f"{is_so!r} where {wanted!r} belongs"
