"""Queues, topics and subscriptions: made, changed, looked at and deleted by the administration client, over TLS."""

from datetime import datetime, timedelta, timezone

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.servicebus import ServiceBusMessage as Message, ServiceBusSubQueue as SubQueue
from azure.servicebus.exceptions import MessagingEntityNotFoundError

from case import case, eventually, listed, opened, refused, same, take, take_one, text


@case()
async def queue_is_made_and_changed(bus):
    name = bus.name()
    settings = {
        "lock_duration": timedelta(seconds=20),
        "max_delivery_count": 7,
        "requires_session": True,
        "requires_duplicate_detection": True,
        "duplicate_detection_history_time_window": timedelta(minutes=3),
        "default_message_time_to_live": timedelta(days=2),
        "dead_lettering_on_message_expiration": True,
        "auto_delete_on_idle": timedelta(hours=1),
        "user_metadata": "<of & ours>",
        "enable_batched_operations": False,
        "max_size_in_megabytes": 2048,
    }
    async with bus.flavour.administration() as client:
        made = await client.create_queue(name, **settings)
        same(made.name, name)
        for queue in (made, await client.get_queue(name)):
            same({setting: getattr(queue, setting) for setting in settings}, settings)
        made.max_delivery_count = 3
        made.lock_duration = timedelta(seconds=30)
        made.user_metadata = "other"
        await client.update_queue(made)
        changed = await client.get_queue(name)
        same((changed.max_delivery_count, changed.lock_duration), (3, timedelta(seconds=30)))
        same((changed.user_metadata, changed.requires_session), ("other", True))
        # What a queue is at birth it stays.
        changed.requires_session = False
        await refused(HttpResponseError, client.update_queue(changed))
        same((await client.get_queue(name)).requires_session, True)
        await client.delete_queue(name)
        await refused(ResourceNotFoundError, client.get_queue(name))
        await refused(ResourceNotFoundError, client.delete_queue(name))


@case()
async def queue_by_default(bus):
    async with bus.flavour.administration() as client:
        queue = await client.create_queue(bus.name())
        same((queue.lock_duration, queue.max_delivery_count), (timedelta(minutes=1), 10))
        same((queue.requires_session, queue.requires_duplicate_detection), (False, False))
        same(queue.dead_lettering_on_message_expiration, False)
        # Without end.
        assert queue.default_message_time_to_live > timedelta(days=10_000_000), queue.default_message_time_to_live
        assert queue.auto_delete_on_idle > timedelta(days=10_000_000), queue.auto_delete_on_idle
        same((queue.forward_to, queue.user_metadata, queue.status), (None, None, "Active"))
        await refused(ResourceExistsError, client.create_queue(bus.name()))
        await refused(ResourceExistsError, client.create_topic(bus.name()))


@case()
async def queue_is_of_use_at_once(bus):
    name = bus.name("with/slash")
    async with bus.flavour.administration() as client:
        await client.create_queue(name)
        async with bus.client.get_queue_sender(name) as sender:
            await sender.send_messages(Message("m"))
        async with bus.client.get_queue_receiver(name) as receiver:
            same(text(await take_one(receiver)), "m")
        same((await client.get_queue(name)).name, name)
        await client.delete_queue(name)
        await refused(MessagingEntityNotFoundError, opened(bus.client.get_queue_sender(name)))


@case()
async def queue_of_no_good_settings(bus):
    async with bus.flavour.administration() as client:
        await refused(HttpResponseError, client.create_queue(bus.name(), lock_duration=timedelta(minutes=6)))
        await refused(HttpResponseError, client.create_queue(bus.name(), forward_to="nothing"))
        await refused(ResourceNotFoundError, client.get_queue(bus.name()))


@case("plain")
async def queue_is_counted(bus):
    due = datetime.now(timezone.utc) + timedelta(hours=1)
    async with bus.sender() as sender:
        await sender.send_messages([Message(f"{i}") for i in range(5)])
        await sender.schedule_messages(Message("later"), due)
    async with bus.receiver() as receiver:
        bad, done, *_ = await take(receiver, 3)
        await receiver.dead_letter_message(bad)
        await receiver.complete_message(done)
    async with bus.receiver(sub_queue=SubQueue.DEAD_LETTER) as letters:
        await take_one(letters)
    async with bus.flavour.administration() as client:

        async def counted():
            counts = await client.get_queue_runtime_properties(bus.name())
            return (
                counts.active_message_count,
                counts.dead_letter_message_count,
                counts.scheduled_message_count,
                counts.total_message_count,
            )

        await eventually(counted, (3, 1, 1, 5))
        times = await client.get_queue_runtime_properties(bus.name())
        assert abs(datetime.now(timezone.utc) - times.created_at_utc) < timedelta(hours=1), times.created_at_utc


@case()
async def queues_are_listed_by_pages(bus):
    names = {f"{bus.name()}.{i:03}" for i in range(130)}
    async with bus.flavour.administration() as client:
        for name in names:
            await client.create_queue(name)
        found = [queue.name for queue in await listed(client.list_queues())]
        same(len(found), len(set(found)))
        same(names - set(found), set())
        counted = [queue.name for queue in await listed(client.list_queues_runtime_properties())]
        same(names - set(counted), set())
        for name in names:
            await client.delete_queue(name)


@case()
async def topic_with_subscriptions(bus):
    topic = bus.name("topic")
    async with bus.flavour.administration() as client:
        made = await client.create_topic(topic, default_message_time_to_live=timedelta(days=1), user_metadata="t")
        same((made.name, made.default_message_time_to_live, made.user_metadata), (topic, timedelta(days=1), "t"))
        settings = {
            "lock_duration": timedelta(seconds=15),
            "max_delivery_count": 4,
            "dead_lettering_on_message_expiration": True,
            "default_message_time_to_live": timedelta(hours=5),
        }
        subscription = await client.create_subscription(topic, "one", **settings)
        same(subscription.name, "one")
        await client.create_subscription(topic, "two", requires_session=True)
        found = await client.get_subscription(topic, "one")
        same({setting: getattr(found, setting) for setting in settings}, settings)
        same(sorted([one.name for one in await listed(client.list_subscriptions(topic))]), ["one", "two"])
        assert topic in [one.name for one in await listed(client.list_topics())]
        same((await client.get_topic_runtime_properties(topic)).subscription_count, 2)
        found.max_delivery_count = 9
        await client.update_subscription(topic, found)
        same((await client.get_subscription(topic, "one")).max_delivery_count, 9)
        async with bus.client.get_topic_sender(topic) as sender:
            await sender.send_messages([Message("m", session_id="s"), Message("n", session_id="s")])

        async def counted():
            return (await client.get_subscription_runtime_properties(topic, "one")).active_message_count

        await eventually(counted, 2)
        await refused(ResourceExistsError, client.create_subscription(topic, "one"))
        await refused(ResourceNotFoundError, client.get_subscription(topic, "three"))
        await client.delete_subscription(topic, "two")
        same([one.name for one in await listed(client.list_subscriptions(topic))], ["one"])
        await client.delete_topic(topic)
        await refused(ResourceNotFoundError, client.get_topic(topic))
        await refused(ResourceNotFoundError, client.get_subscription(topic, "one"))


@case()
async def namespace(bus):
    async with bus.flavour.administration() as client:
        properties = await client.get_namespace_properties()
        assert properties.name, properties
        assert properties.messaging_sku in ("Standard", "Premium"), properties.messaging_sku
