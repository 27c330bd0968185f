"""Holds Mente's OpenAPI document to what a server really takes and gives.

usage: openapi_document.py URL STATUS-OF-A-BACKUP

The document is valid; then every operation of it is called, and each request and answer must have
the shape that the document says, with no member that it does not name.
"""

import copy
import json
import sys
import time

import requests
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from openapi_spec_validator.validation.exceptions import OpenAPIValidationError

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
BINARY = "text/plain"
RULE = {"Name": "r", "Properties": {"FilterType": "Sql", "SqlFilter": {"SqlExpression": "a = 1"}}}
JSON = "application/json"


def event(id, **more):
    return {"specversion": "1.0", "id": id, "source": "/t", "type": "test", "data": {"n": 1}, **more}


def strict(schema, answer):
    """The same, but nothing unnamed is allowed, nor in an answer what is only written."""
    if isinstance(schema, list):
        return [strict(part, answer) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: strict(part, answer) for name, part in schema.items()}
    members = schema.get("properties")
    if schema.get("type") == "object" and isinstance(members, dict):
        if answer:
            hidden = {n for n, part in members.items() if isinstance(part, dict) and part.get("writeOnly")}
            schema["properties"] = {n: part for n, part in members.items() if n not in hidden}
        schema.setdefault("additionalProperties", False)
    return schema


class Document:
    def __init__(self, document):
        self.document = document
        self.called = set()

    def check(self, schema, value, answer, what):
        """What jsonschema says, with references into the document."""
        whole = strict({"$ref": "#/schema", "schema": schema, "components": self.document["components"]}, answer)
        errors = [f"{e.json_path}: {e.message}" for e in Draft202012Validator(whole).iter_errors(value)]
        if errors:
            raise SystemExit(f"{what}: {errors[:3]} in {json.dumps(value)[:500]}")

    def operation(self, method, path):
        return self.document["paths"][path][method]

    def schema(self, part, content_type):
        content = part.get("content", {})
        media = content_type.split(";")[0]
        if media not in content and "*/*" not in content:
            raise SystemExit(f"{content_type} is not in {list(content)}")
        return content.get(media, content.get("*/*"))["schema"]


def resolved(document, part):
    while "$ref" in part:
        found = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


def caller(url, document):
    def call(method, path, status, body=None, content_type=JSON, query=None, headers=None, **names):
        what = f"{method} {path} -> {status}"
        operation = document.operation(method, path)
        declared = {resolved(document.document, p)["name"] for p in operation.get("parameters", [])}
        undeclared = set(query or {}) - declared
        if undeclared:
            raise SystemExit(f"{what}: {undeclared} is not declared")
        sent = {"data": None}
        if body is not None:
            requested = document.schema(operation["requestBody"], content_type)
            is_json = content_type.endswith(("/json", "+json"))
            if is_json and status < 400:
                document.check(requested, body, False, f"{what}, request")
            sent["data"] = json.dumps(body) if is_json else body
            headers = {"content-type": content_type, **(headers or {})}
        answer = requests.request(
            method, url + path.format(**names), params=query, headers=headers, timeout=60, **sent
        )
        if answer.status_code != status:
            raise SystemExit(f"{what}: {answer.status_code} {answer.text}")
        responses = operation["responses"]
        response = resolved(document.document, responses.get(str(status)) or responses["default"])
        if (str(status) in responses) != (status < 400):
            raise SystemExit(f"{what}: only refusals are left to the default")
        if answer.content or "content" in response:
            given = answer.headers["content-type"]
            schema = document.schema(response, given)
            is_json = given.split(";")[0].endswith(("/json", "+json"))
            document.check(schema, answer.json() if is_json else answer.text, True, f"{what}, answer")
        # 501: that there is no such thing here is all that is to be said.
        if status < 400 or status == 501:
            document.called.add((method, path))
        return answer

    return call


def topics_and_events(call):
    t = "/topics/{topic}"
    call("put", t, 201, {"partitions": 1, "retention_ms": 10**9, "retention_bytes": 10**9}, topic="orders")
    call("put", t, 200, {}, topic="orders")
    call("put", t, 409, {"partitions": 2}, topic="orders")
    call("put", t, 400, {"partitons": 2}, topic="orders")
    call("put", t, 201, None, topic="empty")
    call("get", t, 200, topic="orders")
    call("get", t, 404, topic="nobody")
    call("get", "/topics", 200)
    e = t + "/events"
    call("post", e, 200, event("1", subject="k", level=3, last=True), STRUCTURED, topic="orders")
    call("post", e, 200, [event("2"), event("3")], BATCH, topic="orders")
    headers = {"ce-specversion": "1.0", "ce-id": "4", "ce-source": "/t", "ce-type": "test"}
    call("post", e, 200, "text", BINARY, headers=headers, topic="orders")
    big = event("5", data="x" * (1 << 20))
    call("post", e, 207, [event("5"), big], BATCH, topic="orders")
    call("post", e, 413, big, STRUCTURED, topic="orders")
    call("post", t + ":publish", 200, [event("6")], BATCH, topic="orders")
    call("post", t + ":publish", 400, {}, STRUCTURED, topic="orders")
    query = {"from": "earliest", "partition": 0, "limit": 10, "wait_ms": 1}
    call("get", e, 200, query=query, topic="orders")
    for accept in ["application/x-ndjson", "text/event-stream"]:
        query = {"limit": 2, "follow": "false"}
        call("get", e, 200, query=query, headers={"accept": accept}, topic="orders")
    call("get", e, 200, headers={"Last-Event-ID": "0:1"}, topic="orders")
    call("get", e, 400, query={"from": "noon"}, topic="orders")
    one = e + "/{position}"
    call("get", one, 200, headers={"accept": STRUCTURED}, topic="orders", position="0:0")
    call("get", one, 200, topic="orders", position="0:3")
    call("get", one, 404, topic="orders", position="0:999")
    call("get", t + "/bodies/{place}", 404, topic="orders", place="0-" + "0" * 32)
    lines, page = {"accept": "application/x-ndjson"}, {"from": "earliest", "wait_ms": 1}
    read = call("get", e, 200, query=page, headers=lines, topic="orders")
    topic_id = read.headers["mente-topic-id"]
    if "mente-next-offset" in read.headers:
        raise SystemExit(f"lines that go up to the end, as they always did: {read.headers}")
    read = call("get", e, 200, query=page | {"topic_id": topic_id}, headers=lines, topic="orders")
    if read.headers["mente-next-offset"] != read.headers["mente-end-offset"] or read.headers["mente-waited-ms"] != "0":
        raise SystemExit(f"a page that is read to the end: {read.headers}")
    call("get", e, 200, query={"topic_id": topic_id}, topic="orders")
    call("get", e, 410, query={"topic_id": "another"}, topic="orders")
    told = call("get", t + "/snapshot", 200, topic="orders").text.splitlines()
    head, end = json.loads(told[0])["snapshot"], json.loads(told[-1])["end"]
    if head["topic_id"] != topic_id or end != {"items": 1, "start": {"0": 0}} or '"key":"k"' not in told[1]:
        raise SystemExit(f"a snapshot: {told}")
    call("get", t + "/snapshot", 404, topic="nobody")
    call("delete", t, 204, topic="empty")


def replicas(call, url):
    r, names = "/replicas/{replica}", {"replica": "copied"}
    declared = {"source": {"url": url, "topic": "orders", "key": "any"}}
    call("put", r, 200, declared, **names)
    call("put", r, 400, {"source": {"url": "nowhere", "topic": "orders"}}, **names)
    for _ in range(100):
        status = call("get", r, 200, **names).json()
        if status.get("items") == 1 and status["staleness"]["seconds"] is not None:
            break
        time.sleep(0.1)
    else:
        raise SystemExit(f"the replica is not there: {status}")
    found = call("get", r + "/items/{key}", 200, key="k", **names).json()
    if found["item"]["event"]["id"] != "1" or not found["staleness"]["sourceAnswers"]:
        raise SystemExit(f"an item: {found}")
    if "staleness" not in call("get", r + "/items/{key}", 404, key="nobody", **names).json():
        raise SystemExit("a key that is not there has no age")
    call("get", r + "/items", 200, query={"after": "a", "limit": 1}, **names)
    call("get", r + "/items", 400, query={"limit": 0}, **names)
    call("get", "/replicas", 200)
    call("delete", r, 204, **names)
    call("get", r, 404, **names)


def subscriptions_and_locks(call):
    s = "/topics/{topic}/subscriptions/{subscription}"
    names = {"topic": "orders", "subscription": "mail"}
    whole = {
        "from": "earliest",
        "filter": {"all": [{"prefix": {"type": "te"}}, {"not": {"any": [{"exact": {"id": "x"}}]}}]},
        "lock_duration_ms": 60_000,
        "max_delivery_count": 3,
        "time_to_live_ms": 10**9,
        "ordered": True,
    }
    call("put", s, 201, whole, **names)
    call("put", s, 200, whole, **names)
    call("put", s, 409, {}, **names)
    call("put", s, 400, {"filter": {}}, **names)
    push = {
        "url": "http://127.0.0.1:9/",
        "timeout_ms": 1_000,
        "concurrency": 1,
        "retry": {"waits_ms": [60_000]},
        "secrets": ["whsec_" + "A" * 40],
    }
    hook = {"topic": "orders", "subscription": "hook"}
    call("put", s, 201, {"push": push}, **hook)
    call("get", s, 200, **hook)
    call("get", "/topics/{topic}/subscriptions", 200, topic="orders")
    verb = "/topics/{topic}/eventsubscriptions/{subscription}:"

    def receive(count):
        query = {"maxEvents": count, "maxWaitTime": 30}
        received = call("post", verb + "receive", 200, query=query, **names).json()["value"]
        return [item["brokerProperties"]["lockToken"] for item in received]

    tokens = receive(10)
    if len(tokens) < 4:
        raise SystemExit(f"received only {len(tokens)}")
    call("post", verb + "receive", 400, query={"maxEvents": 0}, **names)
    lock = lambda token: {"lockTokens": [token, "nonsense"]}
    call("post", verb + "renewLock", 200, lock(tokens[0]), **names)
    call("post", verb + "acknowledge", 200, lock(tokens[0]), **names)
    call("post", verb + "acknowledge", 200, lock(tokens[0]), **names)
    query = {"releaseDelayInSeconds": 1}
    call("post", verb + "release", 200, lock(tokens[1]), query=query, **names)
    call("post", verb + "reject", 200, lock(tokens[2]), **names)
    for _ in range(100):
        dead = call("get", s + "/deadletters", 200, query={"from": 0, "limit": 10}, **names).json()
        if dead:
            break
        time.sleep(0.1)
    else:
        raise SystemExit("no dead letter came")
    replay = s + "/deadletters:replay"
    call("post", replay, 200, query={"limit": 1}, **names)
    call("post", replay, 400, query={"limit": 0}, **names)
    call("post", replay, 404, topic="orders", subscription="nobody")
    call("delete", s, 204, **hook)


def streams_and_views(call):
    s = {"stream": "order-17"}
    call("put", "/folds/{category}", 200, {"test": [{"merge": "data"}, {"add": {"count": "$.data.n"}}]}, category="order")
    call("put", "/folds/{category}", 400, {"test": [{"mrege": "data"}]}, category="order")
    call("get", "/folds/{category}", 200, category="order")
    reducer = {"javascript": "function reduce(state, event) { state.last = event.id }"}
    call("put", "/folds/{category}", 200, reducer, category="reduced")
    call("get", "/folds/{category}", 200, category="reduced")
    call("put", "/folds/{category}", 400, {"javascript": "function reduce("}, category="reduced")
    call("post", "/streams/{stream}", 200, [event("1"), event("2")], BATCH, query={"expected": "none"}, **s)
    call("post", "/streams/{stream}", 409, event("3"), STRUCTURED, query={"expected": "none"}, **s)
    call("get", "/streams/{stream}", 200, query={"from": 0, "limit": 5}, **s)
    call("get", "/streams/{stream}", 200, query={"direction": "backwards"}, **s)
    call("get", "/streams/{stream}", 400, query={"direction": "up"}, **s)
    lines = {"accept": "application/x-ndjson"}
    call("get", "/streams/{stream}", 200, headers=lines, **s)
    told = [{"stream": "order-2", "event": event("9", tags="a,b", correlationid="c")}]
    checks = [{"stream": "order-2", "expected": "none"}, {"query": [{"types": ["none"], "tags": ["a"]}], "after": 0}]
    call("post", "/store/events", 200, {"events": told, "checks": checks})
    call("post", "/store/events", 409, {"events": [{"stream": "order-3", "event": event("9")}], "checks": checks})
    call("post", "/store/events", 400, {"events": []})
    call("get", "/store/events", 200, query={"tag": "a,b", "type": "test", "category": "order", "correlation": "c"})
    call("get", "/store/events", 200, query={"causation": "1"})
    call("get", "/store/events", 200, query={"query": '[{"tags":["a"]}]', "direction": "backwards", "limit": 1})
    call("get", "/store/events", 200, query={"time": "2000-01-01T00:00:00Z"}, headers=lines)
    call("get", "/store/events", 200, query={"follow": "false"}, headers={"accept": "text/event-stream"})
    call("get", "/store/events", 400, query={"time": "1ms", "from": 0})
    caused = event("caused", causationid="1", correlationid="c")
    call("post", "/topics/{topic}/events", 200, caused, STRUCTURED, topic="orders")
    if len(call("get", "/trace/{id}", 200, id="1").json()["places"]) < 3:
        raise SystemExit("the trace of an event lacks what it caused")
    call("get", "/trace/{id}", 200, query={"time": "2000-01-01T00:00:00Z"}, id="c")
    call("get", "/trace/{id}", 404, id="nobody")
    call("get", "/trace/{id}", 400, query={"time": "noon"}, id="c")
    m = "/streams/{stream}/metadata"
    call("get", m, 200, **s)
    call("put", m, 200, {"maxCount": 1000, "custom": {"a": 1}}, query={"expected": "none", "id": "m1"}, **s)
    call("put", m, 409, {}, query={"expected": "none"}, **s)
    call("put", m, 416, {"truncateBefore": 1000}, **s)
    call("get", m, 200, **s)
    call("post", "/streams/{stream}", 200, [event("1")], BATCH, stream="gone-1")
    call("delete", "/streams/{stream}", 200, stream="gone-1")
    call("delete", "/streams/{stream}", 404, stream="gone-1")
    call("delete", "/streams/{stream}", 200, query={"forever": "true"}, stream="gone-1")
    call("get", "/streams/{stream}", 410, stream="gone-1")
    mail = {"topic": "$store", "subscription": "mail"}
    wanted = {"from": 0, "filter": {"exact": {"category": "order"}}, "ordered": True}
    call("put", "/topics/{topic}/subscriptions/{subscription}", 201, wanted, **mail)
    call("put", "/topics/{topic}/subscriptions/{subscription}", 416, {"from": 999}, topic="$store", subscription="late")
    receive = "/topics/{topic}/eventsubscriptions/{subscription}:receive"
    received = call("post", receive, 200, query={"maxEvents": 1, "maxWaitTime": 30}, **mail).json()["value"]
    if received[0]["stream"] != "order-17":
        raise SystemExit(f"received {received}")
    call("delete", "/topics/{topic}/subscriptions/{subscription}", 204, **mail)
    call("get", "/streams/{stream}/state", 200, query={"at": 1}, **s)
    call("get", "/streams/{stream}/state", 200, query={"time": "2100-01-01T00:00:00Z"}, **s)
    call("get", "/streams/{stream}/state", 400, query={"at": 1, "time": "1ms"}, **s)
    call("get", "/streams/{stream}/state", 404, stream="nobody-1")
    call("get", "/streams/{stream}/log", 200, query={"before": 2, "limit": 5}, **s)
    call("get", "/streams/{stream}/log", 400, query={"limit": 0}, **s)
    call("get", "/streams/{stream}/diff", 200, query={"from": 0, "to": 1}, **s)
    call("get", "/streams/{stream}/diff", 400, query={"from": 0}, **s)
    call("get", "/streams/{stream}/blame", 200, query={"field": "n", "at": 1}, **s)
    call("get", "/streams/{stream}/blame", 404, query={"field": "nothing"}, **s)
    otherwise = {"drop": [0], "replace": [{"revision": 1, "event": event("3")}], "append": [event("4", data={"m": 2})]}
    call("post", "/streams/{stream}/whatif", 200, otherwise, query={"at": 1}, **s)
    call("post", "/streams/{stream}/whatif", 416, {"drop": [7]}, **s)
    kept = {"alternative": "without-2"}
    one = "/alternatives/{alternative}"
    call("put", one, 200, {"stream": "order-17", **otherwise}, **kept)
    call("put", one, 400, {"drop": [0]}, **kept)
    call("get", "/alternatives", 200)
    call("get", one, 200, **kept)
    call("post", one + "/promote", 200, query={"id": "c1"}, **kept)
    call("delete", one, 204, **kept)
    call("get", one, 404, **kept)
    call("post", "/streams/{stream}/promote", 409, otherwise, query={"at": 1}, **s)
    call("post", "/streams/{stream}/promote", 200, {"append": [event("p1")]}, query={"id": "c2"}, **s)
    call("get", "/streams", 200, query={"from": 1})
    call("delete", "/folds/{category}", 204, category="order")

    kind, upcast = {"type": "Renamed"}, {"version": 2, "upcasters": {"1": [{"rename": {"n": "number"}}]}}
    decider = {"javascript": "function decide(state, command) { return command.data.n > 1 ? { refuse: 'no' } : { type: 'done' } }"}
    call("put", "/deciders/{category}", 200, {"webhook": "http://127.0.0.1:1/"}, category="order")
    call("put", "/deciders/{category}", 200, decider, category="order")
    call("put", "/deciders/{category}", 400, {"javascript": "function decide("}, category="order")
    call("get", "/deciders/{category}", 200, category="order")
    call("get", "/deciders", 200)
    commands = "/streams/{stream}/commands"
    for repeated in (False, True):
        told = call("post", commands, 200, event("d1"), STRUCTURED, stream="order-commanded").json()
        assert told["repeated"] is repeated, told
    call("post", commands, 422, event("d2", data={"n": 2}), STRUCTURED, stream="order-commanded")
    call("post", commands, 400, [], BATCH, stream="order-commanded")
    call("delete", "/deciders/{category}", 204, category="order")
    call("post", commands, 404, event("d3"), STRUCTURED, stream="order-commanded")
    call("put", "/schemas/{type}", 200, upcast, **kind)
    call("put", "/schemas/{type}", 400, {"version": 2}, **kind)
    call("put", "/schemas/{type}", 409, {"version": 1}, **kind)
    call("put", "/schemas/{type}", 400, {"version": 1}, type="a b")
    call("get", "/schemas", 200)
    call("get", "/schemas/{type}", 200, **kind)
    call("post", "/streams/{stream}", 200, event("r1", type="Renamed"), STRUCTURED, stream="renamed-1")
    call("post", "/schemas/{type}/check", 200, upcast, query={"replay": "true"}, **kind)
    split = {"version": 2, "upcasters": {"1": {"split": [{"data": {"a": "$.data.n"}}, {"type": "Other"}]}}}
    call("post", "/schemas/{type}/check", 200, split, query={"replay": "true"}, **kind)
    program = {"version": 2, "upcasters": {"1": {"javascript": "function upcast() { throw 1 }", "types": ["X"]}}}
    checked = call("post", "/schemas/{type}/check", 200, program, query={"replay": "true"}, **kind).json()
    if checked["failed"] != 1:
        raise SystemExit(f"a schema that fails was checked: {checked}")
    call("post", "/schemas/{type}/check", 400, {"version": 0}, **kind)
    call("get", "/streams/{stream}", 200, query={"schema": "written"}, stream="renamed-1")
    call("get", "/streams/{stream}", 400, query={"schema": "raw"}, stream="renamed-1")
    call("delete", "/schemas/{type}", 204, **kind)
    call("get", "/schemas/{type}", 404, **kind)

    relay = {"postgres": "postgres://me@127.0.0.1:1/d?sslmode=disable", "table": "outbox", "order": "seq"}
    call("put", "/relays/{relay}", 200, relay, relay="shop")
    call("put", "/relays/{relay}", 400, {"postgres": "no url"}, relay="shop")
    call("get", "/relays/{relay}", 200, relay="shop")
    call("get", "/relays", 200)
    call("delete", "/relays/{relay}", 204, relay="shop")

    topic = {"Name": "declared", "Subscriptions": [{"Name": "s", "Rules": [RULE]}]}
    config = {"UserConfig": {"Namespaces": [{"Queues": [{"Name": "made"}], "Topics": [topic]}]}}
    call("put", "/topology", 200, config)
    config["UserConfig"]["Namespaces"][0]["Queues"][0]["Properties"] = {"MaxDeliveryCount": 3, "ForwardTo": "declared"}
    call("post", "/topology/diff", 200, config)
    call("put", "/topology", 200, config)
    call("post", "/topology/diff", 400, {})
    call("get", "/topology", 200)

    saga = {"on": {"stuck": "stream"}, "javascript": "function react(state, event) { return state.a.b; }"}
    call("put", "/sagas/{saga}", 200, saga, saga="stand")
    call("put", "/sagas/{saga}", 400, {"on": {}, "javascript": ""}, saga="stand")
    for verb in ["retry", "skip"]:
        call("post", "/streams/{stream}", 200, event("s1", type="stuck"), STRUCTURED, stream=f"a-{verb}")
        while verb not in str(call("get", "/sagas/{saga}", 200, saga="stand").json().get("stuckAt")):
            time.sleep(0.1)
        call("post", "/sagas/{saga}/{key}/" + verb, 202, saga="stand", key=f"a-{verb}")
    call("get", "/sagas", 200)
    call("post", "/sagas/{saga}/{key}/retry", 409, saga="stand", key="a-1")
    call("delete", "/sagas/{saga}", 204, saga="stand")

    p, names = "/projections/{projection}", {"projection": "counts"}
    declared = {
        "source": {"topic": "orders"},
        "init": ["CREATE TABLE seen (id TEXT PRIMARY KEY, n REAL)"],
        "on": {"test": ["INSERT OR IGNORE INTO seen VALUES (:id, 1.5)"]},
    }
    call("put", p, 200, declared, **names)
    call("put", p, 400, {"source": {}}, **names)
    for _ in range(100):
        status = call("get", p, 200, **names).json()
        if status["state"] == "running" and status["lag"] == 0 and status["applied"]:
            break
        time.sleep(0.1)
    else:
        raise SystemExit(f"the projection is not there: {status}")
    found = call("post", p + "/query", 200, {"sql": "SELECT id, n, NULL FROM seen", "limit": 2}, **names)
    if not found.json()["rows"]:
        raise SystemExit("the projection has no rows")
    call("post", p + "/query", 400, {"sql": "DELETE FROM seen"}, **names)
    waiting = {"min-position": "0:0", "wait_ms": 5000}
    call("post", p + "/query", 200, {"sql": "SELECT 1"}, query=waiting, **names)
    call("post", p + "/query", 504, {"sql": "SELECT 1"}, query={"min-position": "0:9999", "wait_ms": 1}, **names)
    every = {"sql": "SELECT e.id, s.n, NULL FROM events e LEFT JOIN counts.seen s ON s.id = e.id", "limit": 500}
    call("post", "/sql", 200, every)
    states = {"sql": "SELECT * FROM states WHERE category = 'renamed'"}
    call("post", "/sql", 200, states, query={"as_of": "2100-01-01T00:00:00Z", "min-position": "0"})
    call("post", "/sql", 400, {"sql": "SELECT * FROM states"})
    parquet = {"accept": "application/vnd.apache.parquet"}
    if not call("post", "/sql", 200, every, headers=parquet).content.startswith(b"PAR1"):
        raise SystemExit("no file of Parquet")
    call("post", p + "/verify", 200, **names)
    call("post", p + "/rollback", 409, **names)
    call("post", p + "/switch", 409, **names)
    call("post", p + "/rebuild", 202, **names)
    for _ in range(100):
        status = call("get", p, 200, **names).json()
        if status["state"] == "running" and "kept" in status:
            break
        time.sleep(0.1)
    else:
        raise SystemExit(f"what was live is not kept: {status}")
    call("post", p + "/rollback", 202, **names)
    call("put", p, 200, {**declared, "switch": "manual"}, **names)
    call("post", p + "/rebuild", 202, **names)
    for _ in range(100):
        status = call("get", p, 200, **names).json()
        if status.get("ready"):
            break
        time.sleep(0.1)
    else:
        raise SystemExit(f"nothing waits for a switch: {status}")
    call("post", p + "/switch", 202, **names)
    broken = {**declared, "database": "broken.db", "on": {"test": ["INSERT INTO seen VALUES ('one', 1)"]}}
    call("put", p, 200, broken, projection="broken")
    for _ in range(100):
        status = call("get", p, 200, projection="broken").json()
        if status["state"] == "failed":
            break
        time.sleep(0.1)
    else:
        raise SystemExit(f"a statement that must fail did not: {status}")
    call("post", p + "/resume", 202, projection="broken")
    call("post", p + "/parked/retry", 409, {}, projection="broken")
    call("put", p, 200, {**broken, "onError": "park"}, projection="broken")
    for _ in range(100):
        status = call("get", p, 200, projection="broken").json()
        if status["state"] == "running" and status["lag"] == 0 and status.get("parked", {}).get("events"):
            break
        time.sleep(0.1)
    else:
        raise SystemExit(f"what fails was not parked: {status}")
    first = call("get", p + "/parked", 200, projection="broken").json()["heldUp"][0]
    call("get", p + "/parked", 200, query={"key": first["key"], "limit": 1}, projection="broken")
    call("get", p + "/parked", 400, query={"limit": 0}, projection="broken")
    call("post", p + "/parked/retry", 200, {"key": first["key"]}, projection="broken")
    call("post", p + "/parked/skip", 409, {"key": first["key"], "position": "0:99999"}, projection="broken")
    call("post", p + "/parked/skip", 400, {"key": first["key"], "position": "here"}, projection="broken")
    named = {"key": first["key"], "position": first["first"]["position"]}
    call("post", p + "/parked/skip", 200, named, projection="broken")
    call("post", p + "/verify", 200, projection="broken")
    call("get", "/projections", 200)
    call("delete", p, 204, projection="broken")
    call("delete", p, 204, **names)


def operation(call):
    call("post", "/verify", 200)
    head = call("get", "/store/head", 200)
    call("post", "/verify", 200, {"noted": {"position": 0, "hash": "A" * 43}})
    call("get", "/api/cluster", 200)
    call("get", "/backup", int(sys.argv[2]))
    branches(call, int(sys.argv[2]) == 200)
    for path in ["/livez", "/readyz", "/metrics", "/openapi.json"]:
        call("get", path, 200)


def branches(call, are_there):
    one, names = "/branches/{branch}", {"branch": "b"}
    if not are_there:
        for method, path, body in [("get", "/branches", None), ("get", one, None), ("put", one, {"from": "default"})]:
            call(method, path, 501, body, **(names if path == one else {}))
        call("get", one + "/diff", 501, **names)
        call("delete", one, 501, **names)
        return
    at = f"default@{int(time.time() * 1000) - 1}ms"
    made = call("put", one, 201, {"from": at}, **names).json()
    call("put", one, 409, {"from": "default"}, **names)
    call("put", one, 400, {"from": "elsewhere"}, branch="c")
    call("get", "/branches", 200)
    call("get", one, 200, **names)
    if requests.get(made["url"] + "/replicas", timeout=30).status_code != 501:
        raise SystemExit("a branch keeps replicas")
    requests.put(made["url"] + "/topics/branched", json={}, timeout=30).raise_for_status()
    fold = {"test": [{"merge": "data"}]}
    requests.put(made["url"] + "/folds/branched", json=fold, timeout=30).raise_for_status()
    for path in ["/topics/branched/events", "/streams/branched-1"]:
        sent = json.dumps(event("1"))
        answer = requests.post(made["url"] + path, data=sent, headers={"content-type": STRUCTURED}, timeout=30)
        answer.raise_for_status()
    told = call("get", one + "/diff", 200, query={"limit": 5}, **names).json()
    if [t["topic"] for t in told["topics"]] != ["branched"] or not told["streams"]:
        raise SystemExit(f"what differs: {told}")
    call("get", one + "/diff", 400, query={"limit": 0}, **names)
    call("delete", one, 204, **names)
    call("get", one, 404, **names)


def planted(document):
    """The checks themselves notice what they should."""
    broken = copy.deepcopy(document)
    broken["paths"]["/topics/{topic}"]["get"]["responses"] = []
    try:
        validate(broken)
        raise SystemExit("an invalid document passed")
    except OpenAPIValidationError:
        pass
    checked = Document(document)
    settings = {"$ref": "#/components/schemas/Settings"}
    for schema, value, answer in [
        ({"$ref": "#/components/schemas/Error"}, {"error": {"code": "X"}}, True),
        ({"$ref": "#/components/schemas/Position"}, {"partition": 0, "offset": 1, "more": 1}, True),
        (settings, {"push": {"url": "http://a/", "secrets": ["whsec_x"]}}, True),
        (settings, {"lock_duration": 1}, False),
    ]:
        try:
            checked.check(schema, value, answer, "planted")
        except SystemExit:
            continue
        raise SystemExit(f"{value} passed")


def main(url):
    document = requests.get(url + "/openapi.json", timeout=60).json()
    validate(document)
    planted(document)
    checked = Document(document)
    call = caller(url, checked)
    topics_and_events(call)
    subscriptions_and_locks(call)
    replicas(call, url)
    streams_and_views(call)
    operation(call)
    methods = {"get", "put", "post", "delete"}
    all_of_it = {(m, path) for path, item in document["paths"].items() for m in item if m in methods}
    # Only AMQP makes such data: of this one only the refusal is held to the document.
    all_of_it.remove(("get", "/topics/{topic}/bodies/{place}"))
    if all_of_it != checked.called:
        raise SystemExit(f"never called: {sorted(all_of_it - checked.called)}")
    print(f"{len(checked.called)} operations ok")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(sys.argv[1])
