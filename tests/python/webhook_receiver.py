"""Receives webhooks and verifies each post with the package of Standard Webhooks, unmodified.

usage: webhook_receiver.py SECRET...

Prints its port, then for every post one line of JSON: by secret, whether the post verifies, and
whether any verifies once the post was changed.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError


def verifies(webhook, body, headers):
    try:
        webhook.verify(body, headers)
        return True
    except WebhookVerificationError:
        return False


def receiver(webhooks):
    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            changed = [
                (body.replace(b"{", b"{ ", 1), headers),
                (body, {**headers, "webhook-id": headers["webhook-id"] + "0"}),
                (body, {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}),
            ]
            line = {
                "id": json.loads(body)["id"],
                "verified": [verifies(webhook, body, headers) for webhook in webhooks],
                "forged": any(verifies(w, b, h) for w in webhooks for b, h in changed),
                "signatures": len(headers.get("webhook-signature", "").split()),
            }
            print(json.dumps(line), flush=True)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    return Receiver


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    server = HTTPServer(("127.0.0.1", 0), receiver([Webhook(secret) for secret in sys.argv[1:]]))
    print(server.server_port, flush=True)
    server.serve_forever()
