"""The rows of state-space kernels: S4D (Vandermonde) and S4 (Cauchy), in PyTorch as in the authors' code
where their CUDA extensions are not installed."""

import math

import torch

from op_rows import OpRow

H, N = 256, 32  # channels; pairs of conjugate states


def s4d_inputs(length, backward):
    def inputs(g):
        n = torch.arange(N)
        A = torch.stack([torch.full((N,), -0.5), math.pi * n], -1).repeat(H, 1, 1)
        C = torch.randn((H, N, 2), generator=g)
        dt = torch.exp(torch.empty(H).uniform_(math.log(1e-3), math.log(0.1), generator=g))
        B = torch.tensor([1.0, 0.0]).repeat(H, N, 1)
        dK = [torch.randn((H, length), generator=g)] if backward else []
        return [A, B, C, dt] + dK

    return inputs


def s4d(length):
    def kernel(x):
        A, B, C = (torch.view_as_complex(t) for t in x[:3])
        step = A * x[3][:, None]
        weight = C * B * (torch.exp(step) - 1.0) / A
        powers = torch.exp(step[:, :, None] * torch.arange(length, dtype=x[3].dtype))
        return 2 * torch.einsum("hn,hnl->hl", weight, powers).real

    return kernel


def s4_inputs(length, backward):
    def inputs(g):
        # Normal part of HiPPO-LegS: -1/2 plus a skew matrix.
        n = torch.arange(2 * N, dtype=torch.float64)
        root = torch.sqrt(2 * n + 1)
        A = torch.tril(-root[:, None] * root[None], -1) - torch.diag(n + 1)
        P = torch.sqrt(n + 0.5)
        values, vectors = torch.linalg.eigh(-1j * (A + P[:, None] * P[None] + 0.5 * torch.eye(2 * N)))
        half = vectors[:, N:].conj().T  # the ones of positive imaginary part
        split = lambda z: torch.view_as_real(z.to(torch.complex64))
        Lambda = split(-0.5 + 1j * values[N:]).repeat(H, 1, 1)
        low = split(half @ P.to(half.dtype)).repeat(H, 1, 1)[:, None]
        B = split(half @ root.to(half.dtype)).repeat(H, 1, 1)
        C = torch.randn((H, N, 2), generator=g)
        dt = torch.exp(torch.empty(H).uniform_(math.log(1e-3), math.log(0.1), generator=g))
        dK = [torch.randn((H, length), generator=g)] if backward else []
        return [Lambda, low, low.clone(), B, C, dt] + dK

    return inputs


def s4(length):
    def kernel(x):
        Lambda, P, Q, B, C = (torch.view_as_complex(t) for t in x[:5])
        step = x[5][:, None]
        angle = -2j * math.pi * torch.arange(length // 2 + 1, dtype=torch.float64) / length
        omega = torch.exp(angle).to(Lambda.dtype)
        z = 2 * (1 - omega) / (1 + omega)
        left = torch.stack([C, Q[:, 0].conj()], 1)[:, :, None]
        right = torch.stack([B, P[:, 0]], 1)[:, None]
        v = left * right * step[..., None, None]
        pairs = lambda t: torch.cat([t, t.conj()], -1)
        poles = pairs(Lambda * step)[:, None, None, :, None]
        r = (pairs(v)[..., None] / (z - poles)).sum(-2)
        spectrum = r[:, 0, 0] - r[:, 0, 1] * r[:, 1, 0] / (1 + r[:, 1, 1])
        return torch.fft.irfft(spectrum * 2 / (1 + omega), n=length)

    return kernel


def few_channels(forward, backward):
    """(right, ours, theirs, naive) of four channels: float64 of all would not fit everywhere."""

    def sample(tensors, ours, theirs):
        def results(kind):
            leaves = [t[:4].to(kind).requires_grad_(backward) for t in tensors]
            inputs = leaves[:-1] if backward else leaves
            y = forward(inputs)
            if not backward:
                return [y]
            y.backward(leaves[-1])
            return [y.detach()] + [leaf.grad for leaf in inputs]

        return [
            (right, one[:4], two[:4], naive)
            for right, one, two, naive in zip(
                results(torch.float64), ours, theirs, results(torch.float32)
            )
        ]

    return sample


def all_rows():
    def row(name, op, inputs, forward, length, backward, options):
        return OpRow(
            name + (", there and back" if backward else ""),
            f"H={H} N=64 L={length}",
            op,
            inputs(length, backward),
            forward(length),
            10.0,
            options=dict(options, length=length),
            backward=backward,
            sample=few_channels(forward(length), backward),
        )

    rows = []
    for length in (1024, 16384):
        for backward in (False, True):
            rows.append(
                row("S4D kernel", "s4d_kernel", s4d_inputs, s4d, length, backward, {})
            )
        # There and back PyTorch needs more than 16 GB at the longer length.
        for backward in (False, True) if length == 1024 else (False,):
            rows.append(row("S4 kernel", "s4_kernel", s4_inputs, s4, length, backward, {}))
    return rows
