"""Rules of subscriptions: which messages one gets, and what of them is other for it."""

from datetime import datetime, timedelta

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.servicebus import ServiceBusMessage as Message, ServiceBusSubQueue as SubQueue
from azure.servicebus.management import (
    CorrelationRuleFilter,
    FalseRuleFilter,
    SqlRuleAction,
    SqlRuleFilter,
    TrueRuleFilter,
)

from case import case, decoded, is_empty, listed, refused, same, take, text, texts


async def publish(bus, messages):
    async with bus.client.get_topic_sender(bus.name("topic")) as sender:
        await sender.send_messages(messages)


def receiver(bus, subscription):
    return bus.client.get_subscription_receiver(bus.name("topic"), subscription)


async def got(bus, subscription, count):
    """So many messages and no more, by their texts: copies come in no certain order."""
    async with receiver(bus, subscription) as receiving:
        came = await take(receiving, count)
        for message in came:
            await receiving.complete_message(message)
        await is_empty(receiving)
    return sorted(came, key=text)


async def ruled(client, bus, subscription, rules, **settings):
    """A subscription with these rules, each a filter and what it does, and no other."""
    await client.create_subscription(bus.name("topic"), subscription, **settings)
    of = (bus.name("topic"), subscription)
    for name, (chosen, action) in rules.items():
        await client.create_rule(*of, name, filter=chosen, action=action)
    await client.delete_rule(*of, "$Default")


@case("topic")
async def rules_are_made_changed_and_removed(bus):
    of = (bus.name("topic"), "one")
    async with bus.flavour.administration() as client:
        (default,) = await listed(client.list_rules(*of))
        same((default.name, type(default.filter), default.action), ("$Default", TrueRuleFilter, None))
        parameters = {"@text": "x", "@whole": 7, "@real": 0.5, "@flag": True, "@at": datetime(2026, 11, 30, 12)}
        parameters["@long"] = timedelta(minutes=5)
        sql = SqlRuleFilter("a = @text AND b > @whole", parameters)
        action = SqlRuleAction("SET c = @whole", {"@whole": 7})
        made = await client.create_rule(*of, "sql", filter=sql, action=action)
        correlation = CorrelationRuleFilter(correlation_id="c", label="l", properties={"p": "q", "n": 1})
        await client.create_rule(*of, "correlation", filter=correlation)
        await client.create_rule(*of, "none", filter=FalseRuleFilter())
        for rule in (made, await client.get_rule(*of, "sql")):
            same((rule.name, rule.filter.sql_expression), ("sql", "a = @text AND b > @whole"))
            given = dict(rule.filter.parameters)
            same(given.pop("@at").replace(tzinfo=None), parameters["@at"])
            same(given, {name: value for name, value in parameters.items() if name != "@at"})
            same((rule.action.sql_expression, rule.action.parameters), ("SET c = @whole", {"@whole": 7}))
        found = (await client.get_rule(*of, "correlation")).filter
        same((found.correlation_id, found.label, found.properties), ("c", "l", {"p": "q", "n": 1}))
        same((found.to, found.session_id), (None, None))
        names = [rule.name for rule in await listed(client.list_rules(*of))]
        same(sorted(names), ["$Default", "correlation", "none", "sql"])
        made.filter = SqlRuleFilter("a = 'other'")
        made.action = None
        await client.update_rule(*of, made)
        changed = await client.get_rule(*of, "sql")
        same((changed.filter.sql_expression, changed.action), ("a = 'other'", None))
        await refused(ResourceExistsError, client.create_rule(*of, "sql"))
        await client.delete_rule(*of, "sql")
        await refused(ResourceNotFoundError, client.get_rule(*of, "sql"))
        await refused(ResourceNotFoundError, client.delete_rule(*of, "sql"))
        await refused(ResourceNotFoundError, client.update_rule(*of, made))
        # What cannot be read, or done.
        error = await refused(HttpResponseError, client.create_rule(*of, "r", filter=SqlRuleFilter("a ==")))
        same(error.status_code, 400)
        action = SqlRuleAction("SET sys.TimeToLive = a")
        error = await refused(HttpResponseError, client.create_rule(*of, "r", action=action))
        same(error.status_code, 501)


@case("topic")
async def filters_of_each_kind(bus):
    messages = [
        Message("a", subject="red", correlation_id="c-1", application_properties={"size": 5, "color": "Red"}),
        Message("b", subject="blue", to="there", application_properties={"size": 12, "flag": True}),
        Message("c", message_id="id-c", reply_to="back", content_type="text/plain"),
        Message("d", session_id="s", reply_to_session_id="r", application_properties={"size": 5.5}),
    ]
    filters = {
        "all": (TrueRuleFilter(), "abcd"),
        "sql": (SqlRuleFilter("size > @least OR sys.Label LIKE 'r%'", {"@least": 10}), "ab"),
        "whole": (SqlRuleFilter("size = 5"), "a"),
        "range": (SqlRuleFilter("size >= 5 AND size < 6"), "ad"),
        "there": (SqlRuleFilter("NOT EXISTS(size) AND sys.ContentType = 'text/plain'"), "c"),
        "names": (SqlRuleFilter("COLOR = 'Red' OR sys.messageid = 'id-c' OR flag = TRUE"), "abc"),
        "session": (SqlRuleFilter("sys.SessionId = 's' AND sys.ReplyToSessionId = 'r'"), "d"),
        "correlation": (CorrelationRuleFilter(correlation_id="c-1", label="red"), "a"),
        "properties": (CorrelationRuleFilter(to="there", properties={"size": 12, "flag": True}), "b"),
        "reply": (CorrelationRuleFilter(reply_to="back", message_id="id-c", content_type="text/plain"), "c"),
    }
    async with bus.flavour.administration() as client:
        for name, (chosen, wanted) in filters.items():
            await ruled(client, bus, name, {"r": (chosen, None)})
        await ruled(client, bus, "nothing", {"r": (FalseRuleFilter(), None)})
    await publish(bus, messages)
    for name, (_, wanted) in filters.items():
        same((name, texts(await got(bus, name, len(wanted)))), (name, list(wanted)))
    async with receiver(bus, "nothing") as receiving:
        await is_empty(receiving)


@case("topic")
async def action_changes_the_copy(bus):
    action = SqlRuleAction(
        "SET quantity = quantity * @times; SET sys.Label = 'big ' + sys.Label; SET sys.ReplyTo = 'here';"
        " SET sys.CorrelationId = sys.MessageId; SET half = 0.5; REMOVE note",
        {"@times": 2},
    )
    async with bus.flavour.administration() as client:
        await ruled(client, bus, "mine", {"doubled": (SqlRuleFilter("quantity > 1"), action)})
    sent = {"quantity": 4, "note": "x", "kept": "k"}
    await publish(
        bus, [Message("m", subject="s", message_id="id", to="t", application_properties=sent), Message("none")]
    )
    (copy,) = await got(bus, "mine", 1)
    same((text(copy), copy.subject, copy.reply_to, copy.to), ("m", "big s", "here", "t"))
    same((copy.message_id, copy.correlation_id), ("id", "id"))
    wanted = {"quantity": 8, "half": 0.5, "kept": "k", "RuleName": "doubled"}
    same(decoded(copy.application_properties), wanted)
    # Who has no such rule gets it as it was.
    (plain, _) = await got(bus, "one", 2)
    same((plain.subject, decoded(plain.application_properties)), ("s", sent))


@case("topic")
async def each_rule_with_an_action_makes_a_copy(bus):
    def marked(name):
        return (SqlRuleFilter("n = 1"), SqlRuleAction(f"SET mark = '{name}'"))

    rules = {name: (SqlRuleFilter("n > 0"), None) for name in ("a", "b", "c")}
    rules |= {name: marked(name) for name in ("d", "e")}
    async with bus.flavour.administration() as client:
        await ruled(client, bus, "mine", rules)
    await publish(bus, [Message("m", application_properties={"n": 1}), Message("x", application_properties={"n": 0})])
    came = [decoded(message.application_properties) for message in await got(bus, "mine", 3)]
    by_rule = {properties.get("RuleName"): properties.get("mark") for properties in came}
    same(by_rule, {None: None, "d": "d", "e": "e"})


@case("topic")
async def letters_and_copies_that_go_on(bus):
    """A copy that is given up on, or forwarded, is the changed one; what no rule has an answer for is a letter."""
    topic, target = bus.name("topic"), bus.name("target")
    rules = {"r": (SqlRuleFilter("12 / n > 1"), SqlRuleAction("SET mark = 'x'; SET sys.Label = 'y'"))}
    async with bus.flavour.administration() as client:
        await client.create_queue(target)
        for name, options in (("mine", {}), ("on", {"forward_to": target})):
            await ruled(client, bus, name, rules, dead_lettering_on_filter_evaluation_exceptions=True, **options)
    await publish(bus, [Message("m", application_properties={"n": 2}), Message("zero", application_properties={"n": 0})])
    wanted = {"n": 2, "mark": "x", "RuleName": "r"}
    async with bus.client.get_queue_receiver(target) as receiving:
        (copy,) = await take(receiving, 1)
        same((text(copy), copy.subject, decoded(copy.application_properties)), ("m", "y", wanted))
    async with receiver(bus, "mine") as receiving:
        (copy,) = await take(receiving, 1)
        await receiving.dead_letter_message(copy, reason="Broken")
        await is_empty(receiving)
    async with bus.client.get_subscription_receiver(topic, "mine", sub_queue=SubQueue.DEAD_LETTER) as letters:
        by_text = {text(letter): letter for letter in await take(letters, 2)}
        same(sorted(by_text), ["m", "zero"])
        broken = decoded(by_text["m"].application_properties)
        same((broken["mark"], broken["RuleName"], by_text["m"].subject), ("x", "r", "y"))
        same(by_text["m"].dead_letter_reason, "Broken")
        assert by_text["zero"].dead_letter_reason, by_text["zero"]
        assert "mark" not in decoded(by_text["zero"].application_properties)
