"""The rows of single ops: what each computes, on what data, and what is asked of it."""

import dataclasses
from typing import Callable

import torch
import torch.nn.functional as F

import naive
from race import Contest, Work

EPS = 1e-5


@dataclasses.dataclass
class OpRow:
    name: str
    shape: str
    op: str  # of the server
    inputs: Callable  # generator -> tensors, f32 or i64, ours and theirs
    forward: Callable  # tensors -> tensor, in PyTorch
    goal: float
    dtype: str = "f32"
    options: dict = dataclasses.field(default_factory=dict)
    work: Work = None
    share_goal: float = None
    backward: bool = False  # and the gradients of the inputs
    # What is timed in PyTorch, if not `forward`: tensors -> functions, of which the fastest counts.
    peers: Callable = None
    for_peer: Callable = None  # how PyTorch wants the tensors to lie
    to_ours: Callable = None  # an output or gradient of PyTorch, lying as ours
    exact: bool = True  # there is a right result
    # (inputs, our results, theirs) -> (right in float64, ours, theirs, naive) of a part of the
    # results.
    sample: Callable = None
    naive: Callable = None  # as `forward`, naively in f32: whose error is the measure of ours
    keep_seconds: float = None
    repeat: int = 1
    inner: int = 1
    threads: tuple = (2, 1)

    def title(self):
        return f"{self.name} {self.shape} {self.dtype}"

    def _their_inputs(self, tensors):
        wanted = {"f32": torch.float32, "bf16": torch.bfloat16}[self.dtype]
        made = [t.to(wanted) if t.is_floating_point() else t for t in tensors]
        return self.for_peer(made) if self.for_peer else made

    def _there_and_back(self, inputs, forward):
        """A function of no arguments that gives the output and the gradients."""
        is_loss = self.op == "cross_entropy"
        operands = inputs if is_loss else inputs[:-1]
        leaves = [t.detach().requires_grad_() if t.is_floating_point() else t for t in operands]
        watched = [t for t in leaves if t.requires_grad]

        def run():
            for leaf in watched:
                leaf.grad = None
            y = forward(leaves)
            y.backward(None if is_loss else inputs[-1])
            return [y.detach()] + [leaf.grad for leaf in watched]

        return run

    def _runner(self, inputs, forward=None):
        forward = forward or self.forward
        if self.backward:
            return self._there_and_back(inputs, forward)
        return lambda: [forward(inputs)]

    def _errors(self, race, tensors, theirs):
        """Of ours, of theirs and of a naive implementation, where there is one."""
        if not self.exact:
            return None, None, None
        ours = race.our_results()
        if self.to_ours:
            theirs = [self.to_ours(t) for t in theirs]
        if self.sample:
            pairs = self.sample(tensors, ours, theirs)
        else:
            doubles = [t.double() if t.is_floating_point() else t for t in tensors]
            doubles = self.for_peer(doubles) if self.for_peer else doubles
            wanted = self._runner(doubles)()
            if self.to_ours:
                wanted = [self.to_ours(t) for t in wanted]
            naively = self._runner(tensors, self.naive)() if self.naive else wanted
            pairs = list(zip(wanted, ours, theirs, naively))

        def worst(side):
            result = 0.0
            for pair in pairs:
                want = pair[0]
                error = (pair[side].double().reshape(want.shape) - want).abs().max()
                result = max(result, float(error / want.abs().max().clamp_min(1e-30)))
            return result

        return worst(1), worst(2), worst(3) if self.naive or self.sample else None

    def contests(self, race):
        tensors = self.inputs(torch.Generator().manual_seed(1))
        # What both sides see is what the dtype can hold.
        if self.dtype == "bf16":
            tensors = [t.bfloat16().float() if t.is_floating_point() else t for t in tensors]
        options = dict(self.options, backward=self.backward)
        race.prepare_op(
            self.op,
            [(t, self.dtype if t.is_floating_point() else "i64") for t in tensors],
            options,
        )
        inputs = self._their_inputs(tensors)
        runner = self._runner(inputs)
        torch.set_num_threads(2)
        errors = self._errors(race, tensors, runner() if self.exact else None)
        peers = self.peers(inputs) if self.peers else [runner]
        for threads in self.threads:
            yield Contest(
                self.name,
                self.shape,
                self.dtype,
                threads,
                peers,
                self.goal,
                self.work,
                self.share_goal,
                self.keep_seconds,
                self.repeat,
                self.inner,
                *errors,
            )


def normal(*shapes):
    return lambda g: [torch.randn(shape, generator=g) for shape in shapes]


def matmul_rows():
    def row(M, K, N, dtype, goal, transpose_b, share_goal=None, both=True):
        def inputs(g):
            return [
                torch.randn((M, K), generator=g),
                torch.randn((N, K) if transpose_b else (K, N), generator=g) / K**0.5,
            ]

        def forward(x):
            return F.linear(x[0], x[1]) if transpose_b else torch.mm(x[0], x[1])

        def both_layouts(x):
            other = x[1].t().contiguous()
            if transpose_b:
                return [lambda: F.linear(x[0], x[1]), lambda: torch.mm(x[0], other)]
            return [lambda: torch.mm(x[0], x[1]), lambda: F.linear(x[0], other)]

        def sample(tensors, ours, theirs):  # 32 rows of the result
            rows = torch.arange(0, M, max(1, M // 32))[:32]
            a, b = tensors[0][rows], tensors[1].t() if transpose_b else tensors[1]
            naively = naive.product(a.to(theirs[0].dtype), b)
            return [(a.double() @ b.double(), ours[0][rows], theirs[0][rows], naively)]

        return OpRow(
            "matmul",
            f"M={M} K={K} N={N}" + (" W[N,K]" if transpose_b else " W[K,N]" if both else ""),
            "matmul",
            inputs,
            forward,
            goal,
            dtype,
            {"transpose_b": transpose_b},
            Work(2.0 * M * K * N, dtype),
            share_goal,
            peers=both_layouts if both else None,
            sample=sample,
        )

    def cold(transpose_b):
        K, N, count = 768, 3072, 24

        def both_layouts(x):
            weights = [x[1].clone() for _ in range(count)]
            others = [x[1].t().contiguous() for _ in range(count)]
            straight, turned = (F.linear, torch.mm) if transpose_b else (torch.mm, F.linear)
            return [
                lambda: [straight(x[0], weight) for weight in weights],
                lambda: [turned(x[0], weight) for weight in others],
            ]

        return OpRow(
            "matmul, cold weights",
            f"24 x (M=1 K={K} N={N}) " + ("W[N,K]" if transpose_b else "W[K,N]"),
            "matmul_cold",
            normal((1, K), (N, K) if transpose_b else (K, N)),
            lambda x: F.linear(x[0], x[1]) if transpose_b else torch.mm(x[0], x[1]),
            1.1,
            options={"transpose_b": transpose_b, "count": count},
            work=Work(4.0 * K * N * count, "read"),
            share_goal=0.9,
            peers=both_layouts,
        )

    rows = []
    for n in (512, 1024, 2048):
        rows.append(row(n, n, n, "f32", 1.05, False, 0.9 if n >= 1024 else None, False))
    for n in (512, 1024, 2048):
        rows.append(row(n, n, n, "bf16", 0.95, False, None, False))
    for dtype, goal in (("f32", 1.1), ("bf16", 0.95)):
        for N in (3072, 50257):
            for M in (1, 16, 128, 1024):
                for transpose_b in (True, False):
                    rows.append(row(M, 768, N, dtype, goal, transpose_b))
    for transpose_b in (True, False):
        rows.append(cold(transpose_b))
    return rows


def pointwise_rows():
    """Rows of [1024, 768], which stay in cache, and of [8192, 768], which do not."""
    rows = []

    def both_ways(
        name, op, forward, extra, goal, in_bytes, out_bytes, options=None, exact=True, formula=None
    ):
        # in_bytes, out_bytes: how many tensors of the size of x are read and written at least,
        # there; and there and back.
        for n, big in ((1024, False), (8192, True)):
            for backward in (False, True):
                shapes = [(n, 768)] + extra(n) + ([(n, 768)] if backward else [])
                tensors = (in_bytes[backward] + out_bytes[backward]) * n * 768 * 4.0
                rows.append(
                    OpRow(
                        name + (", there and back" if backward else ""),
                        f"[{n},768]",
                        op,
                        normal(*shapes),
                        forward,
                        1.0 if big else goal,
                        options=options or {},
                        work=Work(tensors, "copy") if big else None,
                        share_goal=0.85 if big else None,
                        backward=backward,
                        exact=exact,
                        naive=formula,
                    )
                )

    none = lambda n: []
    weights = lambda n: [(768,), (768,)]
    both_ways(
        "layer_norm",
        "layer_norm",
        lambda x: F.layer_norm(x[0], (768,), x[1], x[2], EPS),
        weights,
        1.5,
        (1, 3),
        (1, 2),
        formula=lambda x: naive.layer_norm(x[0], x[1], x[2], EPS),
    )
    both_ways(
        "rms_norm",
        "rms_norm",
        lambda x: F.rms_norm(x[0], (768,), x[1], EPS),
        lambda n: [(768,)],
        1.5,
        (1, 3),
        (1, 2),
        formula=lambda x: naive.rms_norm(x[0], x[1], EPS),
    )
    both_ways(
        "residual + layer_norm",
        "add_layer_norm",
        lambda x: F.layer_norm(x[0] + x[1], (768,), x[2], x[3], EPS),
        lambda n: [(n, 768)] + weights(n),
        1.5,
        (2, 4),
        (2, 3),
        formula=lambda x: naive.layer_norm(x[0] + x[1], x[2], x[3], EPS),
    )
    unary = [
        ("softmax", lambda x: F.softmax(x[0], -1), 1.5, naive.softmax),
        ("gelu", lambda x: F.gelu(x[0]), 1.5, naive.gelu),
        ("gelu_tanh", lambda x: F.gelu(x[0], approximate="tanh"), 3.0, naive.gelu_tanh),
        ("silu", lambda x: F.silu(x[0]), 1.5, naive.silu),
        ("exp", lambda x: torch.exp(x[0]), 1.5, torch.exp),
    ]
    for name, forward, goal, formula in unary:
        plain = lambda x, formula=formula: formula(x[0])
        both_ways(name, name, forward, none, goal, (1, 3), (1, 2), formula=plain)
    both_ways(
        "dropout",
        "dropout",
        lambda x: F.dropout(x[0], 0.1, True),
        none,
        1.5,
        (1, 2),
        (1, 2),
        {"p": 0.1},
        exact=False,
    )
    rows.append(
        OpRow(
            "softmax",
            "[12,1024,1024]",
            "softmax",
            normal((12, 1024, 1024)),
            lambda x: F.softmax(x[0], -1),
            4.0,
            work=Work(8.0 * 12 * 1024 * 1024, "copy"),
            naive=lambda x: naive.softmax(x[0]),
        )
    )
    return rows


def loss_rows():
    def row(n, vocab, backward, goal):
        def inputs(g):
            targets = torch.randint(vocab, (n,), generator=g)
            return [torch.randn((n, vocab), generator=g) * 2, targets]

        large = vocab > 10000
        # Logits are read; there and back a gradient is written too.
        work = Work(4.0 * n * vocab, "read") if not backward else Work(8.0 * n * vocab, "copy")
        return OpRow(
            "cross_entropy" + (", there and back" if backward else ""),
            f"[{n},{vocab}]",
            "cross_entropy",
            inputs,
            lambda x: F.cross_entropy(x[0], x[1]),
            goal,
            work=work if large else None,
            backward=backward,
            naive=lambda x: naive.cross_entropy(x[0], x[1]),
        )

    return [row(1024, 50257, b, 4.0) for b in (False, True)] + [
        row(1024, 768, b, 1.5) for b in (False, True)
    ]


def attention_rows():
    def row(T, dtype, backward, goal, share_goal=None):
        H, D = 12, 64

        def turned(tensors):  # [batch, pos, head, d] -> [batch, head, pos, d]
            return [t.transpose(1, 2).contiguous() for t in tensors]

        def exact(q, k, v):
            scores = (q @ k.t()) / D**0.5
            hidden = torch.ones(T, T, dtype=torch.bool).triu(1)
            return scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v

        def sample(tensors, ours, theirs):  # one head
            def results(attention, kind):
                heads = [t[0, :, 5].to(kind) for t in tensors]
                q, k, v = (t.clone().requires_grad_(backward) for t in heads[:3])
                z = attention(q, k, v)
                if not backward:
                    return [z]
                z.backward(heads[3])
                return [z.detach(), q.grad, k.grad, v.grad]

            wanted = results(exact, torch.float64)
            naively = results(naive.causal_attention, theirs[0].dtype)
            return [
                (want, one[0, :, 5], two[0, :, 5], three)
                for want, one, two, three in zip(wanted, ours, theirs, naively)
            ]

        operations = 2.0 * H * T * T * D * (3.5 if backward else 1)  # the causal half
        return OpRow(
            "attention, causal" + (", there and back" if backward else ""),
            f"B=1 H={H} T={T} D={D}",
            "attention",
            normal(*[(1, T, H, D)] * (4 if backward else 3)),
            lambda x: F.scaled_dot_product_attention(x[0], x[1], x[2], is_causal=True),
            goal,
            dtype,
            work=Work(operations, dtype),
            share_goal=share_goal,
            backward=backward,
            for_peer=turned,
            to_ours=lambda t: t.transpose(1, 2),
            sample=sample,
        )

    return [
        row(1024, "f32", False, 1.5),
        row(1024, "f32", True, 1.5),
        row(1024, "bf16", False, 1.8),
        row(1024, "bf16", True, 1.8),
        row(4096, "f32", False, 1.25, 0.75),
        row(4096, "f32", True, 1.25, 0.75),
        row(4096, "bf16", False, 1.8),
    ]


def embedding_rows():
    def row(backward):
        def inputs(g):
            table = torch.randn((50257, 768), generator=g)
            ids = torch.randint(50257, (8192,), generator=g)
            return [table, ids] + ([torch.randn((8192, 768), generator=g)] if backward else [])

        moved = 8.0 * 8192 * 768 + (4.0 * (50257 + 8192) * 768 if backward else 0)
        return OpRow(
            "embedding" + (", there and back" if backward else ""),
            "[50257,768], 8192 ids",
            "embedding",
            inputs,
            lambda x: F.embedding(x[1], x[0]),
            1.0,
            work=Work(moved, "copy"),
            backward=backward,
        )

    return [row(False), row(True)]


def adam_rows():
    def row(n):
        def steps(x):
            parameter = x[0].clone().requires_grad_()
            parameter.grad = x[1].clone()
            adam = torch.optim.AdamW([parameter], lr=1e-3, weight_decay=0.01, fused=True)

            def run():
                adam.step()
                return parameter.detach()

            return run

        return OpRow(
            "AdamW step",
            f"[{n}]",
            "adam",
            normal((n,), (n,)),
            lambda x: steps(x)().clone(),
            1.0,
            work=Work(7 * 4.0 * n, "copy") if n > 1 << 22 else None,
            peers=lambda x: [steps(x)],
        )

    return [row(1 << 16), row(1 << 24)]


def overhead_rows():
    """What a call costs: ops on 8 floats, a fork and a join. There is a time to keep."""

    def add_recorded(x):
        leaf = x[0].detach().requires_grad_()

        def run():
            for _ in range(100):
                leaf + x[1]

        return [run]

    def row(name, op, count, forward, keep, **more):
        return OpRow(
            name,
            "8 floats" if count else "2 threads",
            op,
            normal(*[(8,)] * count),
            forward,
            1.0,
            exact=count > 0 and "inner" not in more,
            keep_seconds=keep,
            **more,
        )

    add = lambda x: x[0] + x[1]
    return [
        row("add", "add", 2, add, 50e-9, repeat=10000, threads=(2,)),
        row("gelu", "gelu", 1, lambda x: F.gelu(x[0]), 50e-9, repeat=10000, threads=(2,)),
        row(
            "add, recorded",
            "add",
            2,
            add,
            200e-9,
            options={"recorded": True},
            peers=add_recorded,
            repeat=100,
            inner=100,
            threads=(2,),
        ),
        row(
            "fork and join",
            "fork_join",
            0,
            None,
            2e-6,
            peers=lambda x: [],
            repeat=1000,
            threads=(2,),
        ),
    ]


def all_rows():
    return (
        matmul_rows()
        + pointwise_rows()
        + loss_rows()
        + attention_rows()
        + embedding_rows()
        + adam_rows()
        + overhead_rows()
    )
