"""The blocking client of azure-servicebus behind the face of the asyncio one: the same cases run on both.

Nothing of the SDK is replaced: each call is the SDK's own, made in a thread."""

import asyncio

# What the asyncio client gives at once, without a coroutine.
AT_ONCE = {
    "get_queue_sender",
    "get_queue_receiver",
    "get_topic_sender",
    "get_subscription_receiver",
    "list_queue_sessions",
    "list_subscription_sessions",
    "list_queues",
    "list_queues_runtime_properties",
    "list_topics",
    "list_topics_runtime_properties",
    "list_subscriptions",
    "list_subscriptions_runtime_properties",
    "list_rules",
    "register",
}
DONE = object()


class Blocking:
    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        value = getattr(self.inner, name)
        if name == "session":
            return value and Blocking(value)
        if not callable(value):
            return value
        if name in AT_ONCE:
            return lambda *args, **named: Blocking(value(*bare(args), **bare_named(named)))

        async def called(*args, **named):
            return await asyncio.to_thread(value, *bare(args), **bare_named(named))

        return called

    async def __aenter__(self):
        await asyncio.to_thread(self.inner.__enter__)
        return self

    async def __aexit__(self, *error):
        await asyncio.to_thread(self.inner.__exit__, *error)

    async def __aiter__(self):
        items = iter(self.inner)
        # A StopIteration does not come out of a thread.
        while (item := await asyncio.to_thread(next, items, DONE)) is not DONE:
            yield item


def bare(args):
    return [arg.inner if isinstance(arg, Blocking) else arg for arg in args]


def bare_named(named):
    return dict(zip(named, bare(named.values())))
