"""Cases against a Service Bus, with Celery and kombu as they are published.

run.py run: one line a case, `ok CASE` or `FAIL CASE: why`; fails if a case does.
run.py list: each case.
run.py CASE: this one, here.
The environment has the broker's URL, MENTE_KOMBU, one that names ports, MENTE_KOMBU_PORTS, and certificates to believe."""

import concurrent.futures
import os
import signal
import subprocess
import sys

import transport  # noqa: F401, its cases
import workers  # noqa: F401, the same
from case import CASES

# Of one case.
PATIENCE = 240
# They mostly wait.
AT_ONCE = 4


def fails(name):
    environment = {**os.environ, "MENTE_CASE": name, "PYTHONDONTWRITEBYTECODE": "1"}
    ways = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "start_new_session": True}
    case = subprocess.Popen([sys.executable, __file__, name], env=environment, text=True, **ways)
    try:
        said = case.communicate(timeout=PATIENCE)[1]
    except subprocess.TimeoutExpired:
        # Its workers with it.
        os.killpg(case.pid, signal.SIGKILL)
        said = f"{case.communicate()[1]}\nit did not end in {PATIENCE} s"
    if case.returncode == 0:
        print(f"ok {name}", flush=True)
        return False
    print(f"FAIL {name}: {(said.splitlines() or [case.returncode])[-1]}", flush=True)
    print(said[-20_000:], file=sys.stderr, flush=True)
    return True


if __name__ == "__main__":
    asked = sys.argv[1]
    if asked == "list":
        print("\n".join(CASES))
    elif asked == "run":
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            sys.exit(sum(pool.map(fails, CASES)))
    else:
        CASES[asked]()
