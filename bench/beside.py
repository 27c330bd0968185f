"""Servers beside each other on one machine: each is started with its data below one temporary directory, held while
another is measured, counted and stopped; and the disk that all of them share."""

import ctypes
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
SYNCS = "fsync,fdatasync,sync_file_range,msync,io_submit,io_uring_enter"


def say(text):
    print(text, file=sys.stderr, flush=True)


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def said_by(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()


def stat_of(pid):
    """Parent, and processor seconds: own, and of children that ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[1]), sum(map(int, fields[11:13])) / TICKS, sum(map(int, fields[13:15])) / TICKS


def filesystem(folder):
    done = subprocess.run(["df", "--output=fstype", str(folder)], capture_output=True, text=True)
    return done.stdout.split()[-1] if done.returncode == 0 else "unknown"


def disk_sync(folder, times):
    """p50 and p99 of 4 KiB overwritten and synced, in us: what nothing durable here can be below."""
    path, took = folder / "sync", []
    if not path.exists():
        with open(path, "wb") as file:
            file.write(bytes(1 << 20))
            os.fsync(file.fileno())
    with open(path, "r+b", buffering=0) as file:
        for number in range(times):
            before = time.perf_counter_ns()
            os.pwrite(file.fileno(), os.urandom(4096), number % 256 * 4096)
            os.fdatasync(file.fileno())
            took.append((time.perf_counter_ns() - before) / 1000)
    took.sort()
    return took[len(took) // 2], took[len(took) * 99 // 100]


def median(turns, what):
    return statistics.median(turn[what] for turn in turns)


def aligned(lines):
    """Columns as wide as they need."""
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return "\n".join("  ".join(word.ljust(width) for word, width in zip(line, widths)).rstrip() for line in lines)


class Server:
    """One at work; `start` launches it, `answers` tells whether it is there."""

    name = ""
    user = None
    end = signal.SIGTERM
    # Until it must be there.
    start_seconds = 90

    def __init__(self, folder, options):
        self.folder = folder / self.name.lower()
        self.folder.mkdir()
        self.out = open(folder / f"{self.name.lower()}.out", "wb")
        self.process, self.options = None, options
        self.start()

    def launch(self, command, **environment):
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self.out,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
            cwd=self.folder,
            env=os.environ | environment,
            user=self.user,
            group=self.user,
            extra_groups=[] if self.user else None,
            start_new_session=True,
        )
        end = time.monotonic() + self.start_seconds
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                said = Path(self.out.name).read_text(errors="replace")[-2000:]
                raise SystemExit(f"{self.name} does not answer:\n{said}")
            time.sleep(0.02)

    def pids(self):
        """The server's process and its children, parents first."""
        tree, children = [self.process.pid], {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (stat := stat_of(entry)):
                children.setdefault(stat[0], []).append(int(entry))
        for pid in tree:
            tree += children.get(pid, [])
        return tree

    def tell(self, number):
        for pid in self.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def hold(self):
        """Takes no processor and no disk until `go_on`."""
        self.tell(signal.SIGSTOP)

    def go_on(self):
        self.tell(signal.SIGCONT)

    def cpu(self):
        """Seconds, of what runs and of children that ended."""
        return sum(stat[1] + stat[2] for pid in self.pids() if (stat := stat_of(pid)))

    def memory_mib(self, file, field):
        """What /proc says of each process in such a field, in all."""
        total = 0
        for pid in self.pids():
            try:
                for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
                    if line.startswith(f"{field}:"):
                        total += int(line.split()[1])
            except (FileNotFoundError, ProcessLookupError):
                pass
        return total / 1024

    def count_syncs(self, work):
        """How often it called what waits for the disk, or brings it work, while `work` was done: what strace saw."""
        if not shutil.which("strace"):
            return None
        report = self.folder.parent / "strace"
        targets = [word for pid in self.pids() for word in ("-p", str(pid))]
        command = ["strace", "-f", "-c", "-o", str(report), "-e", f"trace={SYNCS}", *targets]
        tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
        try:
            time.sleep(1)
            work()
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait()
        lines = map(str.split, report.read_text().splitlines())
        return {words[-1]: int(words[3]) for words in lines if words and words[-1] in SYNCS.split(",")}

    def kill(self):
        self.tell(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.go_on()
            self.ask_to_end()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        self.out.close()

    def ask_to_end(self):
        self.process.send_signal(self.end)


def told(calls, per, digits):
    """Calls of the disk, for so much work."""
    if calls is None:
        return "strace is missing"
    return ", ".join(f"{count / per:.{digits}f} {name}" for name, count in calls.items()) or "strace saw none"
