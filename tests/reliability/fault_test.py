"""What happens to a training run may not harm what it has saved: signals, full disks, folders that
cannot be written, bytes that change, two runs at once, numbers that are not finite."""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from tests.harness import run_cases
from tests.reliability import runs

_STEPS = 300


class FaultTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.root = tempfile.mkdtemp(dir=os.environ["TEST_TMPDIR"])
        text = os.path.join(cls.root, "text.txt")
        runs.write_text(text)
        cls.settings = runs.TINY + ["--text=" + text, "--steps=%d" % _STEPS]
        cls.straight = os.path.join(cls.root, "straight")
        done = runs.train(*cls.settings, "--checkpoint_every=50", "--out=" + cls.straight)
        assert done.returncode == 0, done.stderr

    def setUp(self):
        self.out = os.path.join(self.root, self.id().split(".")[-1])

    def copy_of_straight(self):
        """A run that is done but for the model: its last checkpoints are 250 and 300."""
        shutil.copytree(self.straight, self.out)
        os.remove(os.path.join(self.out, "model.safetensors"))
        self.assertEqual(runs.checkpoints(self.out), [250, 300])

    def assert_error(self, done, *parts):
        """Exit code 1 and one line that has these parts."""
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        for part in parts:
            self.assertIn(part, done.stderr)

    def assert_sound(self, steps):
        """These checkpoints, whole, and nothing half done."""
        self.assertEqual(runs.checkpoints(self.out), steps)
        for step in steps:
            self.assertEqual(runs.problems(self.out, step), [])
        self.assertEqual(runs.temporaries(self.out), [])

    def assert_resumes_to_the_same_bits(self):
        done = runs.train("--resume", "--out=" + self.out)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(runs.ending(self.out), runs.ending(self.straight))

    # Signals.

    def stop_once(self, number):
        """Sends the signal after some steps; returns the steps that were done."""
        process = runs.start(*self.settings, "--checkpoint_every=0", "--json", "--out=" + self.out)
        deadline = time.monotonic() + 60
        while len(runs.metrics(self.out)) < 10 and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(number)
        out, errors = process.communicate(timeout=60)
        self.assertEqual((process.returncode, errors), (0, ""))
        summary = json.loads(out)
        step = summary["steps"]
        self.assertEqual(summary["stopped"], step < _STEPS)
        self.assert_sound([step])
        self.assertEqual(len(runs.metrics(self.out)), step)
        if summary["stopped"]:
            self.assertEqual(summary["model"],
                             os.path.join(self.out, "checkpoints", "checkpoint-%d" % step))
        self.assert_resumes_to_the_same_bits()
        return step

    def stop(self, number):
        for attempt in range(10):
            self.out = os.path.join(self.root, "stopped-%d-%d" % (number, attempt))
            if self.stop_once(number) < _STEPS:
                return
        self.fail("every run was over before it got the signal")

    def test_ctrl_c_saves_and_ends(self):
        self.stop(signal.SIGINT)

    def test_termination_saves_and_ends(self):
        self.stop(signal.SIGTERM)

    # Disks.

    def test_short_writes(self):
        """A limit on the size of files: the write that crosses it comes back short, then fails."""
        self.copy_of_straight()
        shutil.rmtree(os.path.join(self.out, "checkpoints", "checkpoint-300"))
        size = len(runs.read(self.out, "checkpoints", "checkpoint-250", "optimizer.safetensors"))
        for limit in (size - 1, size // 2, 4096):
            done = runs.train(
                "--resume", "--out=" + self.out,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
            self.assert_error(done, self.out, "File too large")
            self.assert_sound([250])
        self.assert_resumes_to_the_same_bits()

    @contextlib.contextmanager
    def small_disk(self, size):
        """A folder on a file system of its own of `size` bytes, and a function that resizes it."""
        folder = os.path.join(self.root, "disk")
        os.makedirs(folder, exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", "size=%d" % size, "tmpfs", folder]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode:
            self.skipTest("cannot mount a small tmpfs here: " + done.stderr.strip())
        try:
            yield folder, lambda bytes_: subprocess.run(
                ["mount", "-o", "remount,size=%d" % bytes_, folder], check=True)
        finally:
            subprocess.run(["umount", folder], check=True)

    def test_full_disk(self):
        straight = os.path.join(self.straight, "checkpoints", "checkpoint-300")
        page = 4096
        one = sum(-(-len(runs.read(straight, name)) // page) * page
                  for name in os.listdir(straight))
        settings = self.settings + ["--checkpoint_every=50"]
        # Room for two checkpoints and half of a third, and what else a run writes.
        with self.small_disk(2 * one + one // 2 + 20 * page) as (folder, resize):
            self.out = os.path.join(folder, "run")
            done = runs.train(*settings, "--out=" + self.out)
            self.assert_error(done, self.out, "No space left on device")
            steps = runs.checkpoints(self.out)
            self.assertTrue(steps)
            self.assert_sound(steps)
            done = runs.train("--resume", "--out=" + self.out)  # no better yet
            self.assert_error(done, "No space left on device")
            self.assert_sound(runs.checkpoints(self.out))
            resize(100 * one)
            self.assert_resumes_to_the_same_bits()

    def test_full_disk_at_the_start(self):
        with self.small_disk(3 * 4096) as (folder, _):
            done = runs.train(*self.settings, "--out=" + os.path.join(folder, "run"))
            self.assert_error(done, "No space left on device")
            # No train.json, or a run that can be resumed.
            self.assertEqual(runs.temporaries(os.path.join(folder, "run")), [])

    def test_folder_that_cannot_be_written(self):
        self.copy_of_straight()
        shutil.rmtree(os.path.join(self.out, "checkpoints", "checkpoint-300"))
        folders = [os.path.join(self.out, "checkpoints"), self.out]
        if os.geteuid() == 0:
            # Root may write anywhere but in the kernel's own folders.
            done = runs.train(*self.settings, "--out=/sys/run")
            self.assert_error(done, "/sys/run", "cannot make the folder")
            return
        for folder in folders:
            os.chmod(folder, 0o555)
        try:
            done = runs.train("--resume", "--out=" + self.out)
            self.assert_error(done, self.out, "Permission denied")
        finally:
            for folder in folders:
                os.chmod(folder, 0o755)
        self.assert_sound([250])
        self.assert_resumes_to_the_same_bits()

    # Bytes.

    def test_corrupted_checkpoint_is_passed_over(self):
        rng = random.Random(1)
        for name in ("model.safetensors", "optimizer.safetensors", "config.json", "manifest.json"):
            with self.subTest(name):
                self.out = os.path.join(self.root, "corrupted_" + name)
                self.copy_of_straight()
                broken = os.path.join(self.out, "checkpoints", "checkpoint-300", name)
                if name == "manifest.json":
                    os.truncate(broken, 100)
                else:
                    runs.corrupt(broken, rng)
                done = runs.train("--resume", "--json", "--out=" + self.out)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
                self.assertIn("warning: passed over a broken checkpoint: " + broken, done.stderr)
                summary = json.loads(done.stdout)
                self.assertEqual(summary["resumed_from"], 250)
                self.assertEqual(len(summary["notes"]), 1)
                self.assert_sound([250, 300])
                self.assertEqual(runs.ending(self.out), runs.ending(self.straight))

    def test_no_checkpoint_is_whole(self):
        self.copy_of_straight()
        for step in (250, 300):
            os.truncate(os.path.join(self.out, "checkpoints", "checkpoint-%d" % step,
                                     "model.safetensors"), 50)
        before = runs.read(self.out, "metrics.jsonl")
        done = runs.train("--resume", "--out=" + self.out)
        self.assert_error(done, "no checkpoint is whole", "checkpoint-300/model.safetensors: has 50",
                          "checkpoint-250/model.safetensors: has 50")
        self.assertEqual(runs.read(self.out, "metrics.jsonl"), before)
        self.assertEqual(runs.checkpoints(self.out), [250, 300])

    def test_train_json_that_is_broken(self):
        self.copy_of_straight()
        for text in ("", "{", "[]", "{}", '{"model": "attn_only", "d_modle": 8}'):
            with open(os.path.join(self.out, "train.json"), "w", encoding="ascii") as f:
                f.write(text)
            done = runs.train("--resume", "--out=" + self.out)
            self.assertIn(done.returncode, (1, 2), text)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            self.assert_sound([250, 300])

    # Runs.

    def test_two_runs_in_one_folder(self):
        process = runs.start(*[a for a in self.settings if "steps" not in a], "--steps=100000000",
                             "--checkpoint_every=0", "--out=" + self.out)
        deadline = time.monotonic() + 60
        while not runs.metrics(self.out) and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            done = runs.train("--resume", "--out=" + self.out)
            self.assert_error(done, "another run keeps its checkpoints here")
            done = runs.train(*self.settings, "--out=" + self.out)
            self.assertEqual(done.returncode, 2)
            self.assertIn("has a run already", done.stderr)
        finally:
            process.kill()
            process.communicate()

    def test_not_finite_stops_and_keeps_the_good_checkpoint(self):
        settings = [a for a in self.settings if "warmup" not in a] + [
            "--optimizer=sgd", "--clip_norm=0", "--lr=1e30", "--warmup_steps=100000",
            "--checkpoint_every=1", "--out=" + self.out]
        done = runs.train(*settings)
        self.assert_error(done, "step ", "at index ", "the last good checkpoint is ")
        steps = runs.checkpoints(self.out)
        self.assert_sound(steps)
        self.assertIn("checkpoint-%d\n" % steps[-1], done.stderr)
        # It stops at the same step again: what was saved is sound and the cause is still there.
        again = runs.train("--resume", "--out=" + self.out)
        self.assertEqual((again.returncode, again.stderr), (1, done.stderr))
        self.assert_sound(steps)

    def test_threads_and_restarts_change_nothing(self):
        for threads in (1, 2, 3):
            out = self.out + str(threads)
            done = runs.train(*self.settings, "--threads=%d" % threads, "--out=" + out)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(runs.ending(out), runs.ending(self.straight))


if __name__ == "__main__":
    run_cases.main()
