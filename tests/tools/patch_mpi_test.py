"""Sweeps of //tools:patch_mpi: what mpirun's processes write has the bits of what one writes."""

import os
import shutil
import signal
import time
import unittest

from tests.harness import run_cases
from tests.tools import sweeps
from tests.tools import tools


@unittest.skipIf(shutil.which("mpirun") is None, "mpirun is not installed")
class PatchMpiTest(sweeps.SweepTest, unittest.TestCase):
    launcher = sweeps.mpirun(3)

    def test_the_bits_of_one_process(self):
        for flags in ([], ["--kind=z", "--by=head_pos", "--rows=8"],
                      ["--kind=embed", "--by=pos"], ["--kind=head_every", "--by=head_pos"],
                      ["--kind=resid_pre", "--by=pos", "--process_weights", "--metric=kl"],
                      ["--kind=z", "--by=head", "--rows=1"]):  # one unit, three processes
            with self.subTest(flags=flags):
                said, want = self.straight(*flags)
                for count in (2, 5):
                    done, got = sweeps.Run(sweeps.mpirun(count), *sweeps.SWEEP, *flags,
                                           out=self.path("out")).result()
                    self.assertEqual(got, want)
                    self.assertEqual(done["processes"], count)
                    for name in ("clean", "corrupted", "cells", "shape", "units"):
                        self.assertEqual(done[name], said[name])

    def test_without_mpirun_it_is_one_process(self):
        run = sweeps.Run([], *sweeps.SWEEP, out=self.path("out"))
        said, want = run.result()
        done = tools.run("patch_mpi", *sweeps.SWEEP, "--out=" + self.path("alone"), "--json",
                         env=sweeps.environment())
        self.assertEqual((done.code, done.err), (0, ""))
        self.assertEqual(done.json()["processes"], 1)
        self.assertEqual(tools.read_safetensors(self.path("alone")),
                         tools.read_safetensors(self.path("out")))
        self.assertEqual(done.json()["units"], said["units"])
        self.assertGreater(len(want), 1000)

    def test_a_journal_of_one_process_is_gone_on_from_by_three(self):
        _, want = self.straight()
        one = sweeps.Run([], *sweeps.SWEEP, out=self.path("out"), journal=self.path("journal"))
        while sweeps.size(self.path("journal")) < 2000 and one.process.poll() is None:
            time.sleep(0.001)
        one.send(0, signal.SIGKILL)
        one.end_killed()
        said, got = self.start().result()
        self.assertEqual(got, want)
        self.assertGreater(said["units"]["from_journal"], 0)

    def test_processes_of_other_options(self):
        """mpirun starts each with a command of its own."""
        tool = os.path.abspath("tools/patch_mpi")
        flags = sweeps.SWEEP + ["--out=" + self.path("out")]
        for change, code, part in (
                ("--kind=attn_scores", 1, "process 1 does not do the same as process 0: "
                 "'kind' is \"attn_scores\" there and \"pattern\" here"),
                ("--rows=2", 1, "process 1 does not do the same as process 0"),
                ("--model=/no/such", 1, "process 1: /no/such"),
                ("--kind=patern", 2, "process 1: the model has no kind of activation 'patern'")):
            with self.subTest(change=change):
                both = sweeps.mpirun(1) + [tool] + flags + [":", "-n", "1", tool] + flags + [change]
                run = sweeps.subprocess.run(both, capture_output=True, text=True, check=False,
                                            env=sweeps.environment(), timeout=120)
                said = [line for line in run.stderr.splitlines() if line.startswith("patch: ")]
                self.assertEqual(len(said), 1, run.stderr)
                self.assertIn(part, said[0])
                self.assertEqual(run.returncode, code)
                self.assertFalse(os.path.exists(self.path("out")))

    def test_edges(self):
        flags = ["--model=" + tools.golden("gpt2_tiny"), "--task=induction", "--rows=2",
                 "--method=exact", "--sets=0", "--curve=1", "--threads=1"]
        alone = tools.run("edges", *flags, "--out=" + self.path("alone"))
        self.assertEqual((alone.code, alone.err), (0, ""))
        run = sweeps.subprocess.run(
            sweeps.mpirun(3) + [os.path.abspath("tools/edges_mpi")] + flags +
            ["--out=" + self.path("out")],
            capture_output=True, text=True, check=False, env=sweeps.environment(), timeout=120)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(run.stdout, alone.out.decode())
        with open(self.path("alone"), "rb") as a, open(self.path("out"), "rb") as b:
            self.assertEqual(a.read(), b.read())

    def test_help_is_printed_once(self):
        run = sweeps.subprocess.run(sweeps.mpirun(3) + [os.path.abspath("tools/patch_mpi"),
                                                        "--help"],
                                    capture_output=True, text=True, check=False,
                                    env=sweeps.environment(), timeout=120)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(run.stdout.count("--journal"), 1)


if __name__ == "__main__":
    run_cases.main()
