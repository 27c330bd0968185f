"""A topic with many subscriptions, each with a rule of its own: what a message costs the server until each of them
has looked at it, and whether every subscription got what its rule matches, to the last one."""

import re
import struct
import time
import urllib.request

import backlog

MESSAGES = 20_000
BATCHES = (1, 100)
WAIT_SECONDS = 120

ATOM = "http://www.w3.org/2005/Atom"
BUS = "http://schemas.microsoft.com/netservices/2010/10/servicebus/connect"
INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"


def described(kind, inside=""):
    return (
        f'<entry xmlns="{ATOM}"><content type="application/xml">'
        f'<{kind} xmlns="{BUS}" xmlns:i="{INSTANCE}">{inside}</{kind}></content></entry>'
    )


def rule(number):
    """Of three conditions, as people write them; one number is everybody's own."""
    expression = f"sys.Label IS NULL AND kind = {number} AND region LIKE 'eu-%'"
    filters = f'<Filter i:type="SqlFilter"><SqlExpression>{expression}</SqlExpression></Filter>'
    return f"<DefaultRuleDescription>{filters}<Name>own</Name></DefaultRuleDescription>"


def ask(server, path, body=None):
    url = f"http://127.0.0.1:{server.administration}/{path}?api-version=2021-05"
    kind = {"Content-Type": "application/atom+xml"}
    method = "PUT" if body else "GET"
    request = urllib.request.Request(url, body and body.encode(), kind, method=method)
    with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:
        return answer.read().decode()


def message(number, kinds):
    """With the properties that rules ask for, and 100 bytes of data."""
    kind = b"\x71" + struct.pack(">i", number % kinds)
    properties = backlog.text("kind") + kind + backlog.text("region") + backlog.text("eu-west")
    section = b"\x00\x53\x74\xd1" + struct.pack(">II", len(properties) + 4, 4) + properties
    return b"\x00\x53\x70\xc0\x02\x01\x41" + section + b"\x00\x53\x75\xa0" + bytes([100]) + bytes(100)


def waiting(server, topic, number):
    said = ask(server, f"{topic}/Subscriptions/s{number}")
    return int(re.search(r"ActiveMessageCount>(\d+)<", said)[1])


def measure(server, topic, kinds):
    """Lines for the report, and whether every count is right, of a topic that is made for it."""
    ask(server, topic, described("TopicDescription"))
    for number in range(kinds):
        ask(server, f"{topic}/Subscriptions/s{number}", described("SubscriptionDescription", rule(number)))
    lines, sent = [], 0
    for batch in BATCHES:
        count = max(MESSAGES // (10 if batch == 1 else 1), 2 * kinds) // kinds * kinds
        time.sleep(0.5)
        cpu, began = server.cpu(), time.monotonic()
        client = backlog.Client(server.address, is_sender=True, queue=topic)
        client.fill(count, batch, lambda number: message(number, kinds))
        client.close()
        sent += count
        # Who is asked last may not have looked at all of them yet.
        while waiting(server, topic, kinds - 1) < sent // kinds and time.monotonic() < began + WAIT_SECONDS:
            time.sleep(0.01)
        took, cpu = time.monotonic() - began, server.cpu() - cpu
        each = cpu / count * 1_000_000
        lines.append(
            f"{kinds} subscriptions, {'messages one by one' if batch == 1 else f'batches of {batch}'}: "
            f"{count / took:.0f} messages/s, {each:.0f} us of processor a message, {each * 1000 / kinds:.0f} ns a rule"
        )
    counts = [waiting(server, topic, number) for number in range(kinds)]
    is_exact = counts == [sent // kinds] * kinds
    if not is_exact:
        wrong = sum(counted != sent // kinds for counted in counts)
        lines.append(f"{kinds} subscriptions: {wrong} HAVE ANOTHER COUNT THAN {sent // kinds}")
    return lines, is_exact
