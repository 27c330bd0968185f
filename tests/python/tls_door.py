"""Looks at Mente's TLS door with OpenSSL, as Python has it.

usage: tls_door.py PORT AUTHORITY
"""

import socket
import ssl
import sys

VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


def talk(port, context, name="localhost"):
    """Version, protocol and status line of one request."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
        with context.wrap_socket(plain, server_hostname=name) as tls:
            tls.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            answer = b""
            while chunk := tls.recv(4096):
                answer += chunk
            return tls.version(), tls.selected_alpn_protocol(), answer.split(b"\r\n")[0]


def refused(port, context, name="localhost"):
    try:
        talk(port, context, name)
    except ssl.SSLError as error:
        return str(error)
    raise SystemExit("a handshake that must fail did not")


def main(port, authority):
    for version, number in VERSIONS.items():
        context = ssl.create_default_context(cafile=authority)
        context.minimum_version = context.maximum_version = number
        context.set_alpn_protocols(["h2", "http/1.1"])
        found = talk(port, context)
        if found != (version, "http/1.1", b"HTTP/1.1 200 OK"):
            raise SystemExit(f"with {version}: {found}")
    only_h2 = ssl.create_default_context(cafile=authority)
    only_h2.set_alpn_protocols(["h2"])
    for what, context, name, words in [
        ("HTTP/2 only", only_h2, "localhost", "no application protocol"),
        ("a wrong name", ssl.create_default_context(cafile=authority), "other.example", "hostname mismatch"),
        ("no authority", ssl.create_default_context(), "localhost", "certificate_verify_failed"),
    ]:
        said = refused(port, context, name)
        if words not in said.lower():
            raise SystemExit(f"{what}: {said}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(int(sys.argv[1]), sys.argv[2])
    print("ok")
