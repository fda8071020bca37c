"""Two contestants that take turns: our server, a process of its own, and PyTorch in this one."""

import ctypes
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import torch


class Server:
    """//tests/bench:peer_server; see its head for the requests."""

    def __init__(self, program):
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **request):
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server ended with {self._process.wait()} on {request}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def write_raw(tensor, path):
    """The bytes of a contiguous tensor; without numpy, which PyTorch does not need."""
    pathlib.Path(path).write_bytes(ctypes.string_at(tensor.data_ptr(), tensor.nbytes))


def read_raw(path, shape):
    data = bytearray(pathlib.Path(path).read_bytes())
    os.remove(path)
    return torch.frombuffer(data, dtype=torch.float32).reshape(shape) if data else None


@dataclasses.dataclass
class Work:
    """What a row does at least, for its share of what the machine can do."""

    amount: float  # operations or bytes
    limit: str  # f32, bf16, exp (operations per second), read, copy (bytes per second)

    def moves(self):
        return self.limit in ("read", "copy")


@dataclasses.dataclass
class Contest:
    """One row, ready to run."""

    name: str
    shape: str
    dtype: str
    threads: int
    peers: list  # functions that do the same in PyTorch; the fastest counts
    goal: float  # of ratio = theirs / ours
    work: Work = None
    share_goal: float = None  # of the limit; raises the goal to where it is reached
    keep_seconds: float = None  # a time to keep, whatever the peers take: sets the goal
    repeat: int = 1  # runs that are timed as one
    inner: int = 1  # of what the row is about, in one run
    error_ours: float = None
    error_peer: float = None
    error_naive: float = None


class Race:
    def __init__(self, server, seconds, rounds):
        self.server = server
        self.seconds = seconds
        self.rounds = rounds
        self.folder = tempfile.mkdtemp(
            prefix="residual-peers-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None
        )
        self._limits = {}

    def limits(self, threads):
        if threads not in self._limits:
            self._limits[threads] = self.server.ask(do="limits", threads=threads)
        return self._limits[threads]

    def prepare_op(self, op, inputs, options):
        """inputs: f32 or i64 tensors with the dtype they are to have over there."""
        described = []
        for i, (tensor, dtype) in enumerate(inputs):
            path = f"{self.folder}/in{i}"
            write_raw(tensor, path)
            described.append({"path": path, "shape": list(tensor.shape), "dtype": dtype})
        self.server.ask(do="op", op=op, inputs=described, options=options)
        for item in described:
            os.remove(item["path"])

    def our_results(self):
        shapes = self.server.ask(do="write", path=f"{self.folder}/out")["shapes"]
        return [read_raw(f"{self.folder}/out.{i}", shape) for i, shape in enumerate(shapes)]

    def _time_peer(self, peer, repeat, warm, seconds):
        if warm:
            peer()
        times, end = [], time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            for _ in range(repeat):
                peer()
            times.append(time.perf_counter() - start)
        return times

    def run(self, contest):
        """The row as the table has it."""
        torch.set_num_threads(contest.threads)
        ours, theirs, moves = [], [[] for _ in contest.peers], []
        # Where runs are short, turns are more and shorter: a virtual machine's processors move
        # about and are taken away now and then, for a second or two, which should hit both sides
        # alike.
        turns, seconds = self.rounds, self.seconds
        turn = 0
        while turn < turns:
            ours += self.server.ask(
                do="time",
                threads=contest.threads,
                seconds=seconds,
                repeat=contest.repeat,
                warm=turn == 0,
            )["times"]
            if contest.work is not None and contest.work.moves():
                # As many bytes moved and nothing else, in the same turn: what two processors of a
                # virtual machine can move changes by half within minutes.
                moves += self.server.ask(
                    do="move",
                    limit=contest.work.limit,
                    bytes=int(contest.work.amount),
                    threads=contest.threads,
                    seconds=seconds,
                    warm=turn == 0,
                )["times"]
            for times, peer in zip(theirs, contest.peers):
                times += self._time_peer(peer, contest.repeat, turn == 0, seconds)
            time.sleep(0.005)  # let the other side's threads go to sleep
            if turn == 0 and theirs and max(map(statistics.median, [ours, *theirs])) < seconds / 25:
                turns, seconds = 5 * turns, seconds / 5
            turn += 1
        count = contest.repeat * contest.inner
        ours_seconds = statistics.median(ours) / count
        if theirs:
            peer_seconds = min(statistics.median(times) for times in theirs) / count
        else:
            peer_seconds = contest.keep_seconds
        goal, share = contest.goal, None
        if contest.keep_seconds is not None:
            goal = peer_seconds / contest.keep_seconds
        if contest.work is not None:
            if moves:
                best = statistics.median(moves)
            else:
                best = contest.work.amount / self.limits(contest.threads)[contest.work.limit]
            share = best / ours_seconds
            if contest.share_goal is not None:
                goal = max(goal, contest.share_goal * peer_seconds / best)
        return {
            "name": contest.name,
            "shape": contest.shape,
            "dtype": contest.dtype,
            "threads": contest.threads,
            "ours_seconds": ours_seconds,
            "peer_seconds": peer_seconds,
            "ratio": peer_seconds / ours_seconds,
            "goal": goal,
            "limit_share": share,
            "share_goal": contest.share_goal,
            "ours_best_seconds": min(ours) / count,
            "peer_best_seconds": min((min(times) / count for times in theirs), default=None),
            "error_ours": contest.error_ours,
            "error_peer": contest.error_peer,
            "error_naive": contest.error_naive,
        }


def note(text):
    print(text, file=sys.stderr, flush=True)
