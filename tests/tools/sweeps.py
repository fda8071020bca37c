"""Long sweeps of //tools:patch: started, killed and gone on with; by one process or by mpirun."""

import json
import os
import random
import signal
import subprocess
import tempfile
import time

from tests.tools import tools

# 16 thousand patterns' entries that are not 0, in some 20 units; a second or two of work.
SWEEP = ["--model=" + tools.golden("gpt2_tiny"), "--task=induction", "--rows=1", "--length=64",
         "--kind=pattern", "--by=head_pos_key", "--examples", "--threads=1"]


def mpirun(processes):
    """The command that starts so many processes, also as root, on fewer cores and in a sandbox."""
    return ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none",
            "-n", str(processes)]


def environment():
    # Open MPI puts sockets below TMPDIR, whose names must be short; one process may not be allowed
    # to read another's memory.
    return dict(os.environ, TMPDIR="/tmp", HOME=os.environ.get("HOME", "/tmp"),
                OMPI_MCA_btl_vader_single_copy_mechanism="none")


class Run:
    """A run that goes on while the caller does; `launcher`: mpirun's command, or nothing."""

    def __init__(self, launcher, *args, out, journal=None):
        self.launcher, self.out, self.journal = launcher, out, journal
        self.tool = os.path.abspath(os.path.join("tools", "patch_mpi" if launcher else "patch"))
        command = launcher + [self.tool] + list(args) + ["--out=" + out, "--json"]
        if journal:
            command.append("--journal=" + journal)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, env=environment())

    def end(self):
        """Waits; returns the exit code, stdout and stderr."""
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, out, err

    def end_killed(self):
        """Waits for a run of which a process was killed. Open MPI 4.1's mpirun may hang when that
        happened while it started, with all processes dead: then it is killed as well."""
        deadline = time.monotonic() + 120
        while self.process.poll() is None and (self.pids() or not self.launcher):
            if time.monotonic() > deadline:
                raise AssertionError("processes live on: %s" % self.pids())
            time.sleep(0.01)
        try:
            self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()

    def result(self):
        """Of a run that must have worked: what it printed, and the bytes of the file it wrote."""
        code, out, err = self.end()
        if code or (err and not self.launcher):
            raise AssertionError("exit code %d: %s" % (code, err))
        with open(self.out, "rb") as f:
            return json.loads(out), f.read()

    def pids(self):
        """Of the tool's processes, in the order they were started."""
        if not self.launcher:
            return [self.process.pid]
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/stat" % name, encoding="utf-8") as f:
                    parent = int(f.read().rpartition(")")[2].split()[1])
                with open("/proc/%s/cmdline" % name, "rb") as f:
                    program = f.read().split(b"\0")[0].decode()
            except (OSError, ValueError, IndexError):
                continue
            if parent == self.process.pid and program == self.tool:
                found.append(int(name))
        return sorted(found)

    def send(self, rank, sent):
        """A signal to one process, as soon as there is one; False if the run had ended."""
        while self.process.poll() is None:
            pids = self.pids()
            if rank < len(pids):
                try:
                    os.kill(pids[rank], sent)
                    return True
                except ProcessLookupError:
                    pass
            time.sleep(0.001)
        return False


def size(path):
    return os.path.getsize(path) if os.path.exists(path) else 0


class SweepTest(tools.ToolTest):
    """What holds for both ways; mixed into a unittest.TestCase with `launcher`."""

    launcher = []

    def setUp(self):
        folder = tempfile.TemporaryDirectory(dir=os.environ["TEST_TMPDIR"])
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self, *args, out="out", journal="journal"):
        return Run(self.launcher, *SWEEP, *args, out=self.path(out),
                   journal=self.path(journal) if journal else None)

    def straight(self, *args):
        """What one process without a journal writes."""
        return Run([], *SWEEP, *args, out=self.path("straight")).result()

    def test_killed_runs_go_on(self):
        said, want = self.straight()
        self.assertEqual(said["units"]["from_journal"], 0)
        self.assertGreater(said["units"]["all"], 15)
        rng, journal = random.Random(0), self.path("journal")
        kills, in_run, ranks = 0, 0, 3 if self.launcher else 1
        while kills < 12:
            before, run = size(journal), self.start()
            # In turn: when there are new records, or at any moment of the run.
            if kills % 2:
                while size(journal) <= before + 200 and run.process.poll() is None:
                    time.sleep(0.001)
            else:
                time.sleep(rng.random())
            run.send(kills % ranks, signal.SIGKILL)
            run.end_killed()
            if os.path.exists(self.path("out")):  # it was done: begin again
                os.remove(journal)
                os.remove(self.path("out"))
                continue
            kills += 1
            in_run += size(journal) > before
        self.assertGreaterEqual(in_run, 4)
        before = size(journal)
        said, got = self.start().result()
        self.assertEqual(got, want)
        self.assertGreaterEqual(size(journal), before)
        # The whole journal gives the result without a run, by either way.
        said, again = self.start(out="again").result()
        self.assertEqual(again, want)
        self.assertEqual(said["units"]["from_journal"], said["units"]["all"])

    def test_a_torn_record_is_run_again(self):
        _, want = self.straight()
        said, _ = self.start().result()
        journal = self.path("journal")
        whole = size(journal)
        os.truncate(journal, whole - 3)
        again, got = self.start(out="again").result()
        self.assertEqual(got, want)
        self.assertEqual(again["units"]["from_journal"], said["units"]["all"] - 1)
        self.assertEqual(size(journal), whole)

    def fails(self, code, *args, parts, lines=1, **kwargs):
        done = self.start(*args, **kwargs).end()
        self.assertEqual(done[0], code, done[2])
        self.assertEqual(done[1], "")
        said = [line for line in done[2].splitlines() if line.startswith("patch: ")]
        self.assertEqual(len(said), lines, done[2])
        for part in parts:
            self.assertIn(part, said[0])

    def test_what_is_wrong_is_named(self):
        flags = ["--kind=pattern", "--by=head"]
        self.start(*flags).result()
        with open(self.path("journal"), "rb") as f:
            journal = f.read()
        other = "is a journal of something else: "
        self.fails(1, *flags, "--kind=z", parts=[
            self.path("journal") + ": " + other,
            "'kind' is \"pattern\" there and \"z\" here"])
        self.fails(1, parts=[other, "'by' is \"head\" there and \"head_pos_key\" here"])
        self.fails(1, *flags, "--metric=loss", parts=[other, "'metric' is \"logit_difference\""])
        self.fails(1, *flags, "--process_weights", parts=[other, "'process_weights' is \"false\""])
        self.fails(1, *flags, "--seed=1", parts=[other, "there and"])
        self.fails(1, *flags, "--model=" + tools.golden("llama_tiny"), parts=[other])
        with open(self.path("journal"), "rb") as f:
            self.assertEqual(f.read(), journal)
        self.fails(1, *flags, journal="no/such/folder", parts=["no/such/folder: cannot open"])
        self.fails(1, *flags, journal=".", parts=["is a folder, expected a file"])
        self.fails(1, *flags, "--model=/no/such", parts=["/no/such"])
        self.fails(2, *flags, "--kind=patern", parts=["did you mean 'pattern'"])
        self.fails(2, *flags, "--metirc=loss", parts=["no flag --metirc"])
        self.fails(2, "--method=attribution", parts=["--method=attribution is one run"])
        notes = tools.write("notes.txt", "milk, eggs\n")
        self.fails(1, *flags, journal=notes, parts=[notes + ": is no journal"])
        with open(notes, encoding="utf-8") as f:
            self.assertEqual(f.read(), "milk, eggs\n")

    def test_two_at_once(self):
        first = self.start()
        while size(self.path("journal")) == 0 and first.process.poll() is None:
            time.sleep(0.001)
        # On a busy machine it could be done before the second has begun.
        self.assertTrue(first.send(0, signal.SIGSTOP))
        self.fails(1, out="second", parts=["another process is writing this journal"])
        first.send(0, signal.SIGCONT)
        _, got = first.result()
        self.assertEqual(got, self.straight()[1])
