"""Microsoft's own tests of their Python client, out of its source package, against a Mente.

run.py --mente BINARY [--report FILE] [WORD...]: with words, the files alone whose names hold one.
Prints what came of each file, and writes FILE: every test that did not pass, and why. Ends well if every such test
has its reason in reasons.toml, and every reason its tests. Nothing of the package is kept."""

import argparse
import base64
import collections
import concurrent.futures
import fnmatch
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from xml.etree import ElementTree

import trustme

HERE = pathlib.Path(__file__).parent
# The files that need a Service Bus; what the others try is the client alone.
FILES = [
    "test_queues.py",
    "test_sessions.py",
    "test_subscriptions.py",
    "test_topic.py",
    "test_sb_client.py",
    "test_list_sessions.py",
    "async_tests/test_queues_async.py",
    "async_tests/test_sessions_async.py",
    "async_tests/test_subscriptions_async.py",
    "async_tests/test_topic_async.py",
    "async_tests/test_sb_client_async.py",
    "async_tests/test_list_sessions_async.py",
    "mgmt_tests/test_mgmt_namespaces.py",
    "mgmt_tests/test_mgmt_queues.py",
    "mgmt_tests/test_mgmt_rules.py",
    "mgmt_tests/test_mgmt_subscriptions.py",
    "mgmt_tests/test_mgmt_topics.py",
    "mgmt_tests/test_topic_filter_counts_live.py",
    "mgmt_tests/async/test_mgmt_namespaces_async.py",
    "mgmt_tests/async/test_mgmt_queues_async.py",
    "mgmt_tests/async/test_mgmt_rules_async.py",
    "mgmt_tests/async/test_mgmt_subscriptions_async.py",
    "mgmt_tests/async/test_mgmt_topics_async.py",
]
FILES_AT_ONCE = 6
# Of a file whose tests have queues of their own; they mostly sleep. Those of administration look at all that is there.
TESTS_AT_ONCE = 8
# Of one test; one sends while the client itself waits for a minute, several times.
PATIENCE_SECONDS = 900
READY_SECONDS = 60
# As Azure makes them.
KEY = base64.b64encode(os.urandom(32)).decode()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--mente", required=True)
    arguments.add_argument("--report")
    arguments.add_argument("words", nargs="*")
    asked = arguments.parse_args()
    files = [name for name in FILES if not asked.words or any(word in name for word in asked.words)]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        suite = fetched(folder)
        certified(folder)
        # The long ones are first.
        with concurrent.futures.ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            prove = lambda name: tried(pathlib.Path(asked.mente).resolve(), folder, suite, name)
            outcomes = dict(zip(files, pool.map(prove, files)))
    verdict = Verdict(outcomes, reasons(files))
    print(verdict.table())
    if asked.report:
        page = pathlib.Path(asked.report)
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(verdict.report())
    for fault in verdict.faults:
        print(fault)
    sys.exit(1 if verdict.faults else 0)


def fetched(folder):
    """The tests of the source package, with our preparers in the place of theirs."""
    package = ["--no-deps", "--no-binary", "azure-servicebus", "--require-hashes", "-r", HERE / "sdist.txt"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", folder]
    subprocess.run([*pip, *package], check=True, stdout=sys.stderr)
    (archive,) = folder.glob("azure*.tar.gz")
    with tarfile.open(archive) as source:
        source.extractall(folder, filter="data")
    (suite,) = folder.glob("azure*/tests")
    for shim in ("conftest.py", "servicebus_preparer.py"):
        shutil.copy(HERE / "shims" / shim, suite / shim)
    return suite


def certified(folder):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    leaf.private_key_pem.write_to_path(folder / "key.pem")
    for pem in leaf.cert_chain_pems:
        pem.write_to_path(folder / "cert.pem", append=True)
    # By what may be done with them: rules of the namespace, as the tests ask for them.
    keys = [f"RootManageSharedAccessKey={KEY}", f"onlyListen Listen={KEY}", f"onlySend Send={KEY}"]
    (folder / "keys").write_text("\n".join(keys) + "\n")


def tried(mente, folder, suite, name):
    """What came of each test of a file, on a server that it has to itself: name to outcome and its first line."""
    place = folder / name.replace("/", ".")
    place.mkdir()
    log = (place / "log").open("wb")
    doors = [flag for door in ("http", "amqp", "servicebus-admin") for flag in (f"--{door}", "127.0.0.1:0")]
    identity = ["--tls-cert", folder / "cert.pem", "--tls-key", folder / "key.pem", "--keys-file", folder / "keys"]
    files = ["--data-dir", place / "data", "--ports-file", place / "ports"]
    server = subprocess.Popen([mente, "server", *doors, *identity, *files], stdin=subprocess.DEVNULL, stderr=log)
    try:
        ports = ready(server, place / "ports")
        port = lambda door: ports[door].rsplit(":", 1)[1]
        authority = str(folder / "ca.pem")
        environment = {
            **os.environ,
            "PYTHONPATH": str(HERE / "shims"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SERVICEBUS_ENDPOINT_SUFFIX": f":{port('servicebus-admin')}",
            "MENTE_SERVICEBUS_PORT": port("amqp"),
            "MENTE_SERVICEBUS_CA": authority,
            "MENTE_SERVICEBUS_KEY": KEY,
            "REQUESTS_CA_BUNDLE": authority,
            "SSL_CERT_FILE": authority,
        }
        results = place / "results.xml"
        bounds = [f"--timeout={PATIENCE_SECONDS}", f"--junitxml={results}", "-p", "no:cacheprovider", "-q"]
        bounds += ["-o", "asyncio_mode=auto"]
        bounds += ["-o", "asyncio_default_fixture_loop_scope=function"]
        if not name.startswith("mgmt_tests"):
            bounds += ["-n", str(TESTS_AT_ONCE)]
        with (place / "output").open("wb") as output:
            pytest = [sys.executable, "-m", "pytest", *bounds, suite / name]
            subprocess.run(pytest, cwd=suite, env=environment, stdout=output, stderr=output)
        if not results.exists():
            raise RuntimeError(f"{name}: pytest left no results: {(place / 'output').read_text()[-2000:]}")
        found = read(results)
        print(f"{name}: {collections.Counter(outcome for outcome, _ in found.values())}", file=sys.stderr)
        return found
    finally:
        server.terminate()
        server.wait()
        log.close()


def ready(server, file):
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with {server.returncode}")
        if file.exists():
            return json.loads(file.read_text())
        time.sleep(0.05)
    raise RuntimeError("the server did not become ready")


def read(results):
    found = {}
    for case in ElementTree.parse(results).iter("testcase"):
        outcome, first = "passed", ""
        for part in case:
            if part.tag in ("failure", "error", "skipped"):
                outcome = {"error": "failed", "failure": "failed"}.get(part.tag, "skipped")
                lines = (part.get("message") or part.text or "").strip().splitlines()
                first = lines[0] if lines else ""
        # pytest tells one of a test and of what is done after it.
        if found.get(case.get("name"), ("", ""))[0] != "failed":
            found[case.get("name")] = (outcome, first)
    return found


class Reason:
    def __init__(self, tests, why, sometimes=False):
        self.tests, self.why, self.used = tests, why, sometimes

    def holds_for(self, test):
        return any(fnmatch.fnmatchcase(test, pattern) for pattern in self.tests)


def reasons(files):
    listed = tomllib.loads((HERE / "reasons.toml").read_text()).get("reason", [])
    # Of the files that run.
    of_files = lambda pattern: any(fnmatch.fnmatchcase(name, pattern.split("::")[0]) for name in files)
    kept = [Reason(**{**one, "tests": [test for test in one["tests"] if of_files(test)]}) for one in listed]
    return [reason for reason in kept if reason.tests]


class Verdict:
    def __init__(self, outcomes, reasons):
        self.outcomes = outcomes
        self.faults = []
        self.misses = []
        for file, tests in outcomes.items():
            for name, (outcome, first) in tests.items():
                if outcome == "failed":
                    test = f"{file}::{name}"
                    reason = next((reason for reason in reasons if reason.holds_for(test)), None)
                    if reason:
                        reason.used = True
                    else:
                        self.faults.append(f"no reason is known: {test}: {first}")
                    self.misses.append((test, first, reason.why if reason else "not known yet"))
        for reason in reasons:
            if not reason.used:
                self.faults.append(f"a reason of tests that all passed: {', '.join(reason.tests)}")

    def table(self):
        lines = ["| file | tests | passed | missed | left out by itself |", "|---|---|---|---|---|"]
        whole = collections.Counter()
        for file, tests in self.outcomes.items():
            count = collections.Counter(outcome for outcome, _ in tests.values())
            whole += count
            lines.append(row(f"`{file}`", len(tests), count))
        lines.append(row("all", sum(whole.values()), whole))
        return "\n".join(lines)

    def report(self):
        misses = ["| test | first line of its error | why |", "|---|---|---|"]
        misses += [f"| `{test}` | `{cell(first)}` | {cell(why)} |" for test, first, why in self.misses]
        left = [
            f"| `{file}::{name}` | `{cell(first)}` |"
            for file, tests in self.outcomes.items()
            for name, (outcome, first) in tests.items()
            if outcome == "skipped"
        ]
        left = ["| test | what it says |", "|---|---|", *left]
        parts = [HEAD, self.table(), "## Misses", "\n".join(misses), "## Left out by the suite itself", "\n".join(left)]
        return "\n\n".join(parts) + "\n"


HEAD = """# Service Bus: Microsoft's own tests of their Python client

The tests in the source package of azure-servicebus 7.15.0 that need a Service Bus, against a Mente, one server for
each file: `cargo xtask long servicebus-live`, which writes this page. What differs from a run on Azure is in
`tests/servicebus/live/shims`: queues and topics are made through the administration API, there is a key where they
have an identity of Azure's, the port is Mente's, and each test has its queues to itself. Reasons are kept in
`tests/servicebus/live/reasons.toml`; a miss without one fails the run, and a reason without a miss does too."""


def row(name, tests, count):
    return f"| {name} | {tests} | {count['passed']} | {count['failed']} | {count['skipped']} |"


def cell(text):
    return " ".join(text.replace("|", "\\|").replace("`", "'").split())[:200]


if __name__ == "__main__":
    main()
