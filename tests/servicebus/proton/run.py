"""Cases against a Service Bus, with python-qpid-proton: what AMQP says of credit and outcomes, and SDKs seldom use.

run.py run: one line a case, `ok CASE` or `FAIL CASE: why`; fails if a case does.
run.py list: each case and the kinds of what it needs.
The environment has a connection string, MENTE_SERVICEBUS."""

import sys
import traceback

from proton import Condition, Delivery, Link
from proton.utils import LinkDetached

from client import Client, bodies, same

CASES = {}


def case(*kinds):
    """A case of queues of these kinds (tests/servicebus/entities.json), which it has to itself; it is told the first's name."""

    def register(function):
        CASES[function.__name__] = (kinds, function)
        return function

    return register


@case("plain")
def credit_is_never_exceeded(client, queue):
    client.send(client.sender(queue), *range(10))
    # Two links of one session.
    session = client.session()
    one, two = (client.receiver(queue, session) for _ in range(2))
    one.flow(3)
    came = client.take(one, 3)
    two.flow(2)
    came += client.take(two, 2)
    same((one.credit, two.credit), (0, 0))
    for turn in range(2):
        one.flow(1)
        two.flow(1)
        came += client.take(one, 1) + client.take(two, 1)
    # Whatever had been sent beyond the credit would be here before this answer, and not for who has some.
    other = client.receiver(queue, credit=1)
    came += client.take(other, 1)
    same([len(client.came[link.name]) for link in (one, two, other)], [0, 0, 0])
    same(sorted(bodies(came)), list(range(10)))


@case("plain")
def a_drain_of_an_empty_queue_uses_credit_up(client, queue):
    first, second = client.receiver(queue), client.receiver(queue)
    for _ in range(3):
        same(client.drain(first, 7), [])
        same(first.credit, 0)
    client.send(client.sender(queue), "late")
    # It would have been the first one's, which waited for longer.
    second.flow(1)
    same(bodies(client.take(second, 1)), ["late"])
    same(client.came[first.name], [])


@case("plain")
def a_drain_after_waiting(client, queue):
    """The credit was granted before, and a call waits for messages meanwhile."""
    link = client.receiver(queue, credit=4)
    client.send(client.sender(queue), "one")
    same(bodies(client.take(link, 1)), ["one"])
    same(link.credit, 3)
    same(client.drain(link, 0), [])
    same(link.credit, 0)
    client.send(client.sender(queue), "two")
    link.flow(1)
    same(bodies(client.take(link, 1)), ["two"])


@case("plain")
def a_drain_of_a_full_queue_delivers_what_credit_allows(client, queue):
    client.send(client.sender(queue), *range(5))
    link = client.receiver(queue)
    same(bodies(client.drain_for(link, 3, 3)), [0, 1, 2])
    same(link.credit, 0)
    same(bodies(client.drain_for(link, 10, 2)), [3, 4])
    same(link.credit, 0)


def settled_first(client, delivery, outcome):
    delivery.update(outcome)
    delivery.settle()


def settled_second(client, delivery, outcome):
    client.settle(delivery, outcome)


def outcomes(client, queue, settles, settle):
    """How each outcome ends a message: what comes again, how often it failed then, and what is dead or put aside."""
    sender = client.sender(queue)
    link = client.receiver(queue, settles=settles)
    same(link.remote_rcv_settle_mode, settles)

    def one(body):
        client.send(sender, body)
        return again(body, 0)

    def again(body, failed):
        link.flow(1)
        ((message, delivery),) = client.take(link, 1)
        same((message.body, message.delivery_count), (body, failed))
        return delivery

    settle(client, one("accepted"), Delivery.ACCEPTED)
    settle(client, one("released"), Delivery.RELEASED)
    settle(client, again("released", 0), Delivery.ACCEPTED)
    modified = one("modified")
    modified.local.failed = True
    settle(client, modified, Delivery.MODIFIED)
    settle(client, again("modified", 1), Delivery.ACCEPTED)
    # What is not to be delivered here is deferred: only who asks for it has it.
    aside = one("aside")
    aside.local.undeliverable = True
    settle(client, aside, Delivery.MODIFIED)
    rejected = one("rejected")
    rejected.local.condition = Condition("odd:reason", "words")
    settle(client, rejected, Delivery.REJECTED)
    dead = client.receiver(f"{queue}/$DeadLetterQueue", credit=1)
    ((letter, delivery),) = client.take(dead, 1)
    same(letter.body, "rejected")
    said = [letter.properties[name] for name in ("DeadLetterReason", "DeadLetterErrorDescription")]
    same(said, ["odd:reason", "words"])
    settled_first(client, delivery, Delivery.ACCEPTED)
    same(bodies(client.drain(link, 1)), [])


@case("plain")
def outcomes_that_are_settled_at_once(client, queue):
    outcomes(client, queue, Link.RCV_FIRST, settled_first)


@case("plain")
def outcomes_that_are_settled_second(client, queue):
    outcomes(client, queue, Link.RCV_SECOND, settled_second)


@case("plain")
def outcomes_of_many_at_once(client, queue):
    client.send(client.sender(queue), *range(50))
    link = client.receiver(queue, settles=Link.RCV_SECOND, credit=50)
    came = client.take(link, 50)
    # Proton says one disposition of neighbours that are alike.
    for at, (_, delivery) in enumerate(came):
        delivery.update(Delivery.RELEASED if at % 10 == 9 else Delivery.ACCEPTED)
    client.wait(lambda: all(delivery.settled for _, delivery in came), "answers to outcomes")
    for _, delivery in came:
        delivery.settle()
    same(bodies(client.drain_for(link, 50, 5)), [9, 19, 29, 39, 49])


@case("plain")
def what_is_sent_settled(client, queue):
    for settled in (Link.SND_SETTLED, Link.SND_MIXED):
        sender = client.sender(queue, settled)
        same(sender.remote_snd_settle_mode, settled)
        client.send(sender, "one", "two", settled=True)
        link = client.receiver(queue, credit=2)
        for _, delivery in client.take(link, 2):
            settled_first(client, delivery, Delivery.ACCEPTED)
        client.close(sender)
    sent = client.send(client.sender(queue, Link.SND_UNSETTLED), "three")
    same([delivery.remote_state for delivery in sent], [Delivery.ACCEPTED])
    same(bodies(client.drain_for(client.receiver(queue), 5, 1)), ["three"])


@case("plain")
def what_is_received_settled(client, queue):
    client.send(client.sender(queue), *range(5))
    link = client.receiver(queue, settled=Link.SND_SETTLED)
    same(link.remote_snd_settle_mode, Link.SND_SETTLED)
    link.flow(3)
    came = client.take(link, 3)
    same([delivery.settled for _, delivery in came], [True] * 3)
    client.close(link)
    same(bodies(client.drain_for(client.receiver(queue), 10, 2)), [3, 4])


@case("plain")
def what_a_link_leaves_unsettled_is_given_back(client, queue):
    client.send(client.sender(queue), *range(4))
    for leave in (client.close, lambda link: client.close(link.session)):
        link = client.receiver(queue, credit=4)
        came = client.take(link, 4)
        same([message.delivery_count for message, _ in came], [0] * 4)
        leave(link)
    other = Client()
    link = other.receiver(queue, credit=4)
    same(bodies(other.take(link, 4)), list(range(4)))
    other.end()
    # What it says of the last ones as it goes, holds.
    link = client.receiver(queue, credit=4)
    came = client.take(link, 4)
    for _, delivery in came[:3]:
        settled_first(client, delivery, Delivery.ACCEPTED)
    client.close(link)
    same(bodies(client.take(client.receiver(queue, credit=4), 1)), [3])


@case("plain")
def a_link_that_settles_second_leaves_locks(client, queue):
    """Whoever locks as SDKs do may settle by requests when the link is gone."""
    client.send(client.sender(queue), "locked", "free")
    link = client.receiver(queue, settles=Link.RCV_SECOND, credit=1)
    same(bodies(client.take(link, 1)), ["locked"])
    client.close(link)
    same(bodies(client.drain_for(client.receiver(queue), 5, 1)), ["free"])


@case("plain")
def many_messages_and_large_ones(client, queue):
    """By the credit that the server grants, and in frames as large as it takes."""
    sender = client.sender(queue)
    count = 1_500
    assert 0 < sender.credit < count, f"credit of {sender.credit} at the beginning"
    client.send(sender, *range(count))
    link = client.receiver(queue, credit=count)
    came = client.take(link, count)
    same(bodies(came), list(range(count)))
    for _, delivery in came:
        settled_first(client, delivery, Delivery.ACCEPTED)
    body = "\N{SNOWMAN}" * 200_000
    client.send(sender, body)
    link.flow(1)
    same(bodies(client.take(link, 1)), [body])


@case()
def a_queue_that_is_not_there(client, _):
    try:
        raise AssertionError(f"{client.receiver('nowhere')} opened")
    except LinkDetached as refused:
        same((refused.condition, refused.link.remote_source.address), ("amqp:not-found", None))


def fails(name):
    kinds, function = CASES[name]
    client = Client()
    try:
        function(client, kinds and f"{kinds[0]}.{name}")
        client.end()
        print(f"ok {name}", flush=True)
        return False
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"FAIL {name}: {why}", flush=True)
        traceback.print_exc()
        return True


if __name__ == "__main__":
    if sys.argv[1] == "list":
        for name, (kinds, _) in CASES.items():
            print(name, *kinds)
    else:
        sys.exit(sum([fails(name) for name in sys.argv[2:] or CASES]))
