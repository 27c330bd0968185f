"""Sends commands with the Python package `cloudevents`, unmodified.

usage: commands.py SERVER

`counter` streams count, and refuse what is above 9 (crates/mente/tests/it/commands.rs).
"""

import json
import sys
import urllib.error
import urllib.request

from cloudevents.core.bindings import http
from cloudevents.core.v1.event import CloudEvent

server = sys.argv[1]


def send(to_message, id, by):
    attributes = {"id": id, "source": "/python", "type": "Count", "datacontenttype": "application/json"}
    message = to_message(CloudEvent(attributes, {"by": by}))
    request = urllib.request.Request(f"{server}/streams/counter-7/commands", message.body, message.headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


told = [
    send(http.to_binary_event, "p1", 1),
    send(http.to_structured_event, "p2", 1),
    send(http.to_binary_event, "p1", 1),
    send(http.to_structured_event, "p3", 10),
]
decided = [answer for status, answer in told if status == 200]
refused = [answer for status, answer in told if status == 422 and answer["error"]["code"] == "Refused"]
assert [answer["revision"] for answer in decided] == [0, 1, 0], decided
repeated = [answer for answer in decided if answer["repeated"]]
print(f"{len(decided)} commands, {len(refused)} refused, {len(repeated)} repeated")
