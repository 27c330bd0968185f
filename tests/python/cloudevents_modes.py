"""Sends and reads Mente's CloudEvents with the Python package `cloudevents`, unmodified.

usage: cloudevents_modes.py publish|read SERVER TOPIC

`publish` sends every case of tests/cloudevents/cases.json in binary, structured and batch mode and
prints the positions by mode and case; `read` takes such a document on its standard input, reads
every event in binary, structured and batch mode, and prints what the package made of it. The
package has no batches of its own: a batch is an array of its structured events.
"""

import base64
import json
import sys
import urllib.request
from datetime import datetime, timezone
from pathlib import Path

from cloudevents.core.bindings import http
from cloudevents.core.v1.event import CloudEvent

CASES = json.loads((Path(__file__).parents[1] / "cloudevents/cases.json").read_text("utf-8"))
BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"


def call(url, body=None, headers={}):
    with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
        return http.HTTPMessage(dict(answer.headers.items()), answer.read())


def event(case):
    attributes = {"id": case["name"], "source": "/python", "type": "case"} | case["attributes"]
    attributes["time"] = datetime(2026, 11, 30, 12, 0, 0, 125000, timezone.utc)
    data = case.get("json", case.get("text"))
    if "base64" in case:
        data = base64.b64decode(case["base64"])
    return CloudEvent(attributes, data)


def shown(event):
    """What another program can compare: attributes without their defaults, data by kind."""
    attributes = dict(event.get_attributes())
    if attributes.pop("time") != datetime(2026, 11, 30, 12, 0, 0, 125000, timezone.utc):
        attributes["time"] = "another"
    for name in ("id", "source", "type", "specversion"):
        attributes.pop(name)
    data = event.get_data()
    found = {"attributes": attributes}
    if isinstance(data, bytes):
        found["base64"] = base64.b64encode(data).decode()
    elif isinstance(data, str):
        found["text"] = data
    elif data is not None:
        found["json"] = data
    return found


def publish(url):
    places = {"binary": {}, "structured": {}, "batch": {}}
    for mode, write in [("binary", http.to_binary_event), ("structured", http.to_structured_event)]:
        for case in CASES:
            sent = write(event(case))
            # The package names no content type for data that it writes without one; urllib
            # would add that of a form.
            request = urllib.request.Request(url, sent.body, sent.headers)
            if "content-type" not in sent.headers:
                request.add_unredirected_header("Content-type", "")
            with urllib.request.urlopen(request) as answer:
                place = json.loads(answer.read())
            places[mode][case["name"]] = f"{place['partition']}:{place['offset']}"
    batch = b"[" + b",".join(http.to_structured_event(event(case)).body for case in CASES) + b"]"
    answers = json.loads(call(url, batch, {"content-type": BATCH}).body)["events"]
    for case, place in zip(CASES, answers):
        places["batch"][case["name"]] = f"{place['partition']}:{place['offset']}"
    return places


def read(url, places):
    found = {}
    for mode, cases in places.items():
        for name, position in cases.items():
            if position.startswith("refused"):
                continue
            structured = call(f"{url}/{position}", headers={"accept": STRUCTURED})
            offset = position.split(":")[1]
            batch = json.loads(call(f"{url}?partition=0&from={offset}&limit=1").body)
            one = http.HTTPMessage({"content-type": STRUCTURED}, json.dumps(batch[0]).encode())
            found[f"{mode} {name}"] = {
                "binary": shown(http.from_http_event(call(f"{url}/{position}"))),
                "structured": shown(http.from_http_event(structured)),
                "batch": shown(http.from_http_event(one)),
            }
    return found


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("publish", "read"):
        raise SystemExit(__doc__)
    address = f"{sys.argv[2]}/topics/{sys.argv[3]}/events"
    print(json.dumps(publish(address) if sys.argv[1] == "publish" else read(address, json.load(sys.stdin))))
