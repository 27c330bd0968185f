"""A receiver of webhooks that does something of its own with each event, and says what caused it.

usage: trace.py URL TOPIC KEY

Prints its port. For every post it publishes a thank-you to TOPIC of the server at URL, as caused by the event that
came, by the headers alone; then prints a line of JSON: the body of the post and the two headers.
"""

import json
import sys
import urllib.parse
from http.server import BaseHTTPRequestHandler, HTTPServer

import requests
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent


def receiver(url, topic, key):
    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            event = from_http_event(HTTPMessage({k.lower(): v for k, v in self.headers.items()}, body))
            causes = {n: urllib.parse.unquote(self.headers["mente-" + n]) for n in ["causationid", "correlationid"]}
            thanks = CloudEvent(
                {
                    "id": "thanks-" + event.get_id(),
                    "source": "/receiver",
                    "type": "Thanked",
                    "specversion": "1.0",
                    **causes,
                },
                {},
            )
            message = to_structured_event(thanks)
            path = f"{url}/topics/{topic}/events"
            headers = {**message.headers, "authorization": f"SharedAccessKey {key}"}
            answer = requests.post(path, data=message.body, headers=headers, timeout=30)
            print(json.dumps({"event": json.loads(body), "status": answer.status_code, **causes}), flush=True)
            self.send_response(204 if answer.ok else 503)
            self.end_headers()

        def log_message(self, *_):
            pass

    return Receiver


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    server = HTTPServer(("127.0.0.1", 0), receiver(*sys.argv[1:]))
    print(server.server_port, flush=True)
    server.serve_forever()
