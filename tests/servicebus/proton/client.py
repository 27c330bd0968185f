"""A client by Apache Qpid Proton, one step at a time: it grants exactly the credit that it is told to, and says of
messages exactly what it is told to."""

import os

from proton import Endpoint, Handler, Link, Message
from proton.utils import BlockingConnection

# For whatever must happen soon; long, since machines are busy, and shorter than any lock that is not to end.
SOON = 30


class Client(Handler):
    """One connection; what came on its links is in `came`, by link: messages and their deliveries."""

    def __init__(self):
        super().__init__()
        self.came = {}
        connection = os.environ["MENTE_SERVICEBUS"]
        url = f"amqp://{connection.split('Endpoint=sb://', 1)[1].split(';', 1)[0]}"
        self.blocking = BlockingConnection(url, timeout=SOON, allowed_mechs="ANONYMOUS")
        self.blocking.conn.handler = self
        # Which saw all before.
        self.add(self.blocking)

    def on_delivery(self, event):
        delivery, link = event.delivery, event.link
        if link.is_receiver and delivery.readable and not delivery.partial:
            message = Message()
            message.decode(link.recv(delivery.pending))
            # The next one is current.
            link.advance()
            self.came[link.name].append((message, delivery))

    def wait(self, is_so, what):
        self.blocking.wait(is_so, timeout=SOON, msg=what)

    def session(self):
        session = self.blocking.conn.session()
        session.open()
        return session

    def receiver(self, address, session=None, settled=Link.SND_MIXED, settles=Link.RCV_FIRST, credit=0):
        link = (session or self.session()).receiver(f"from-{len(self.came)}-{address}")
        link.source.address = address
        link.snd_settle_mode, link.rcv_settle_mode = settled, settles
        self.came[link.name] = []
        self.open(link)
        if credit:
            link.flow(credit)
        return link

    def sender(self, address, settled=Link.SND_MIXED):
        link = self.session().sender(f"to-{address}")
        link.target.address = address
        link.snd_settle_mode = settled
        self.open(link)
        return link

    def open(self, link):
        link.open()
        self.wait(lambda: link.state & Endpoint.REMOTE_ACTIVE, f"{link.name} opens")

    def close(self, endpoint):
        """A link or a session."""
        endpoint.close()
        self.wait(lambda: endpoint.state & Endpoint.REMOTE_CLOSED, "an answer to an end")

    def end(self):
        self.blocking.close()

    def send(self, sender, *bodies, settled=False):
        """Each when there is credit for it; the deliveries, all answered unless they were settled."""
        deliveries = []
        for body in bodies:
            self.wait(lambda: sender.credit > 0, f"credit on {sender.name}")
            delivery = Message(body=body).send(sender)
            if settled:
                delivery.settle()
            deliveries.append(delivery)
        if not settled:
            self.wait(lambda: all(one.settled for one in deliveries), "answers to what was sent")
        return deliveries

    def take(self, link, count):
        """What came, once it is so many; no more must have come."""
        self.wait(lambda: len(self.came[link.name]) >= count, f"{count} messages on {link.name}")
        came, self.came[link.name] = self.came[link.name], []
        same(len(came), count)
        return came

    def drain_for(self, link, credit, count):
        """What came by drains until so many did. A server that is busy answers one in a tenth of a second, whatever it
        has found by then: it is asked again."""
        came = []
        for _ in range(50):
            came += self.drain(link, credit - len(came))
            if len(came) >= count:
                break
        return came

    def drain(self, link, credit):
        """What came until the link has none of this credit left."""
        link.drain(credit)
        self.wait(lambda: not link.draining(), f"the drain of {link.name}")
        link.drain_mode = False
        came, self.came[link.name] = self.came[link.name], []
        return came

    def settle(self, delivery, outcome):
        """Says so first and settles when the peer did, which must say the same."""
        delivery.update(outcome)
        self.wait(lambda: delivery.settled, "an answer to an outcome")
        same(delivery.remote_state, outcome)
        delivery.settle()


def bodies(came):
    return [message.body for message, _ in came]


def same(is_so, wanted):
    assert is_so == wanted, f"{is_so!r} where {wanted!r} belongs"
