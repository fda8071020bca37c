"""The rows of scans: Mamba's selective scan, and Mamba-2's dual form of it."""

import dataclasses
import time

import torch
import torch.nn.functional as F

import naive
from op_rows import OpRow
from race import Contest, Work, note

DIM, STATE = 1536, 16  # of Mamba 130M
HEADS, HEAD_DIM, HEAD_STATE = 24, 64, 128  # of Mamba-2 130M


def scan_inputs(length, backward):
    def make(g):
        def normal(*shape):
            return torch.randn(shape, generator=g)

        def uniform(low, high, *shape):
            return low + (high - low) * torch.rand(shape, generator=g)

        tensors = [
            normal(1, length, DIM),
            uniform(-6, -2, 1, length, DIM),  # steps between 0.002 and 0.1
            -torch.arange(1.0, STATE + 1).repeat(DIM, 1),
            normal(1, length, STATE),
            normal(1, length, STATE),
            normal(DIM),
            normal(1, length, DIM),
        ]
        return tensors + ([normal(1, length, DIM)] if backward else [])

    return make


def reference_loop(x):
    """As selective_scan_ref of mamba_ssm: all decays first, then a loop. By unbind: the gradient of
    an index is as large as what is indexed, and takes 40 times as long."""
    u, delta, A, B, C, D, z = x
    delta = F.softplus(delta)
    decay = torch.exp(torch.einsum("bld,dn->bldn", delta, A))
    written = torch.einsum("bld,bln,bld->bldn", delta, B, u)
    h, ys = u.new_zeros(u.shape[0], u.shape[2], A.shape[1]), []
    for decay_t, written_t, C_t in zip(decay.unbind(1), written.unbind(1), C.unbind(1)):
        h = decay_t * h + written_t
        ys.append(torch.einsum("bdn,bn->bd", h, C_t))
    return (torch.stack(ys, 1) + u * D) * F.silu(z)


def scan_chunk(h, u, delta, A, B, C):
    ys = []
    for u_t, delta_t, B_t, C_t in zip(u.unbind(1), delta.unbind(1), B.unbind(1), C.unbind(1)):
        h = torch.exp(delta_t[..., None] * A) * h + (delta_t * u_t)[..., None] * B_t[:, None]
        ys.append((h * C_t[:, None]).sum(-1))
    return h, torch.stack(ys, 1)


def unbind_loop(x, chunk=scan_chunk, size=None):
    """A step after the other; nothing of [pos, dim, state] numbers, but what autograd keeps."""
    u, delta, A, B, C, D, z = x
    delta = F.softplus(delta)
    h, ys = u.new_zeros(u.shape[0], u.shape[2], A.shape[1]), []
    size = size or u.shape[1]
    for t in range(0, u.shape[1], size):
        part = slice(t, t + size)
        h, y = chunk(h, u[:, part], delta[:, part], A, B[:, part], C[:, part])
        ys.append(y)
    return (torch.cat(ys, 1) + u * D) * F.silu(z)


_compiled = []


def compiled_chunk():
    """64 steps by torch.compile, once; None if it cannot."""
    if not _compiled:
        chunk = torch.compile(scan_chunk)
        start = time.perf_counter()
        try:
            unbind_loop(scan_inputs(64, False)(torch.Generator().manual_seed(1)), chunk, 64)
            note(f"  compiled in {time.perf_counter() - start:.0f} s")
            _compiled.append(chunk)
        except Exception as error:  # no C++ compiler, or one it does not like
            note(f"  torch.compile: {str(error).splitlines()[0]}")
            _compiled.append(None)
    return _compiled[0]


@dataclasses.dataclass
class BestFormRow(OpRow):
    """Against the fastest there is: steps that store nothing, and torch.compile's chunks of them."""

    def contests(self, race):
        chunk = compiled_chunk() if race.compile and not self.backward else None
        if chunk is not None:
            self.peers = lambda x: [
                lambda: unbind_loop(x, chunk, 64),
                lambda: unbind_loop(x),
            ]
        yield from super().contests(race)


def scan_rows():
    rows = []
    for length in (512, 2048):
        for name, kind, forward, goals in (
            ("selective scan", OpRow, reference_loop, (50.0, 40.0)),
            ("selective scan, best form", BestFormRow, unbind_loop, (7.0, 40.0)),
        ):
            for backward in (False, True):
                rows.append(
                    kind(
                        name + (", there and back" if backward else ""),
                        f"D={DIM} N={STATE} L={length}",
                        "selective_scan",
                        scan_inputs(length, backward),
                        forward,
                        goals[backward],
                        # Exponentials: one for each update, there and back again one.
                        work=Work(float((1 + backward) * length * DIM * STATE), "exp"),
                        backward=backward,
                        naive=naive.selective_scan,
                        threads=(2,),
                    )
                )
    return rows


@dataclasses.dataclass
class LongRow:
    """Eight thousand positions against our own two: time is to be linear."""

    backward: bool
    name: str = "selective scan"
    most: float = 4.2

    def __post_init__(self):
        self.name += ", there and back" if self.backward else ""
        self.shape = f"D={DIM} N={STATE} L=8192 against {self.most} x L=2048"

    def title(self):
        return f"{self.name} {self.shape} f32"

    def contests(self, race):
        ours = {}

        def prepare(length):
            made = scan_inputs(length, self.backward)(torch.Generator().manual_seed(1))
            race.prepare_op(
                "selective_scan", [(t, "f32") for t in made], {"backward": self.backward}
            )

        for turn in range(2 * race.rounds):
            for length in (2048, 8192):
                prepare(length)
                times = race.server.ask(do="time", threads=2, seconds=race.seconds)["times"]
                ours.setdefault(length, []).extend(times)
        short = sorted(ours[2048])[len(ours[2048]) // 2]
        yield Contest(
            self.name, self.shape, "f32", 2, [], 1.0, keep_seconds=self.most * short
        )


def ssd_inputs(length, backward):
    def make(g):
        def normal(*shape):
            return torch.randn(shape, generator=g)

        tensors = [
            normal(1, length, HEADS, HEAD_DIM),
            -6 + 4 * torch.rand((1, length, HEADS), generator=g),
            -1 - 15 * torch.rand((HEADS,), generator=g),
            normal(1, length, 1, HEAD_STATE),
            normal(1, length, 1, HEAD_STATE),
            normal(HEADS),
        ]
        return tensors + ([normal(1, length, HEADS, HEAD_DIM)] if backward else [])

    return make


def sums_between(x):
    """[.., t, s]: the sum of x over s+1 .. t, each by itself; -inf where s > t."""
    size = x.shape[-1]
    x = x[..., None].expand(*x.shape, size)
    below = torch.ones(size, size, dtype=torch.bool).tril(-1)
    sums = x.masked_fill(~below, 0).cumsum(-2)
    return sums.masked_fill(~torch.ones(size, size, dtype=torch.bool).tril(), float("-inf"))


def chunked_ssd(x, size=64):
    """Listing 1 of Dao and Gu 2024, of one group."""
    u, dt, A, B, C, D = x
    delta = F.softplus(dt)
    shape = (u.shape[0], u.shape[1] // size, size)
    X = (u * delta[..., None]).reshape(*shape, *u.shape[2:])
    a = (delta * A).reshape(*shape, -1).permute(0, 3, 1, 2)  # [batch, head, chunk, pos]
    B, C = (m.reshape(*shape, -1) for m in (B, C))
    total = a.cumsum(-1)
    L = torch.exp(sums_between(a))
    scores = torch.einsum("bcln,bcsn->bcls", C, B)
    y = torch.einsum("bhcls,bcshp->bclhp", scores[:, None] * L, X)
    states = torch.einsum("bcln,bhcl,bclhp->bchpn", B, torch.exp(total[..., -1:] - total), X)
    states = torch.cat([torch.zeros_like(states[:, :1]), states], 1)
    decay = torch.exp(sums_between(F.pad(total[..., -1], (1, 0))))
    before = torch.einsum("bhzc,bchpn->bzhpn", decay, states)[:, :-1]
    y = y + torch.einsum("bcln,bchpn,bhcl->bclhp", C, before, torch.exp(total))
    return y.reshape(u.shape) + u * D[:, None]


def ssd_rows():
    def row(length, backward, goal):
        return OpRow(
            "ssd" + (", there and back" if backward else ""),
            f"H={HEADS} P={HEAD_DIM} N={HEAD_STATE} L={length}",
            "ssd",
            ssd_inputs(length, backward),
            chunked_ssd,
            goal,
            peers=lambda x: [with_chunks(x, backward, size) for size in (64, 128, 256)],
            # In chunks of 64; back, with the states made anew, 2.2 times what is done there.
            work=Work(
                2.0 * length * HEADS * HEAD_DIM * (64 + 2 * HEAD_STATE) * (3.2 if backward else 1),
                "f32",
            ),
            backward=backward,
            naive=naive.ssd if length <= 512 else None,
            threads=(2,),
        )

    def with_chunks(x, backward, size):
        if not backward:
            return lambda: chunked_ssd(x, size)
        leaves = [t.detach().requires_grad_() for t in x[:-1]]

        def run():
            for leaf in leaves:
                leaf.grad = None
            chunked_ssd(leaves, size).backward(x[-1])

        return run

    return [row(length, backward, 2.0) for length in (512, 2048) for backward in (False, True)]


def all_rows():
    return scan_rows() + [LongRow(False), LongRow(True)] + ssd_rows()
