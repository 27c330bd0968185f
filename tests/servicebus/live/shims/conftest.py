"""Points the SDK, which knows but its standard port and public authorities, at a Mente. Nothing else of it changes."""

import os
import sys
from enum import Enum
from types import ModuleType

import certifi

certifi.where = lambda: os.environ["MENTE_SERVICEBUS_CA"]

import azure.servicebus._pyamqp._connection as connection
import azure.servicebus._pyamqp.aio._connection_async as asyncio_connection
from azure.servicebus._pyamqp._transport import WebSocketTransport
from azure.servicebus._pyamqp.aio._transport_async import WebSocketTransportAsync

PORT = int(os.environ["MENTE_SERVICEBUS_PORT"])
connection.SECURE_PORT = asyncio_connection.SECURE_PORT = PORT


def at_our_port(transport, place):
    """A WebSocket's address is made of what `place` sets."""
    begin = transport.__init__

    def __init__(self, *args, **options):
        begin(self, *args, **options)
        place(self)

    transport.__init__ = __init__


def place_host(transport):
    transport._host = transport._host.replace("localhost/", f"localhost:{PORT}/")


def place_port(transport):
    transport.port = PORT


at_our_port(WebSocketTransport, place_host)
at_our_port(WebSocketTransportAsync, place_port)


class AccessRights(str, Enum):
    """Of azure.mgmt.servicebus.models, all that the suite takes of that package."""

    manage = "Manage"
    send = "Send"
    listen = "Listen"


for name in ("azure.mgmt", "azure.mgmt.servicebus", "azure.mgmt.servicebus.models"):
    sys.modules[name] = ModuleType(name)
sys.modules["azure.mgmt.servicebus.models"].AccessRights = AccessRights


def pytest_configure(config):
    for marker in ("liveTest", "live_test_only", "playback_test_only"):
        config.addinivalue_line("markers", f"{marker}: of the suite, without a meaning here")
