"""Naive implementations, whose errors are the measure of ours: the formula, sums in order in f32.

On bf16 what every step gives is rounded to bf16, as PyTorch's single ops do.

Gradients come from autograd, through sums and products whose gradients are in order too.
"""

import torch


class _Sum(torch.autograd.Function):
    """Over the last axis, which stays with one element."""

    @staticmethod
    def forward(ctx, x):
        ctx.shape = x.shape
        columns = x.movedim(-1, 0).contiguous()
        total = torch.zeros(columns[0].shape)
        for column in columns:
            total += column
        return total[..., None].to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad.expand(ctx.shape)


class _Product(torch.autograd.Function):
    """[M, K] by [K, N]."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        c = torch.zeros(a.shape[0], b.shape[1])
        for column, row in zip(a.t().float().contiguous(), b.float().contiguous()):
            c += column[:, None] * row
        return c.to(a.dtype)

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        return _Product.apply(grad, b.t()), _Product.apply(a.t(), grad)


class _Rows(torch.autograd.Function):
    """n rows that are x."""

    @staticmethod
    def forward(ctx, x, n):
        return x.expand(n, -1)

    @staticmethod
    def backward(ctx, grad):
        return _Sum.apply(grad.t())[:, 0], None


product = _Product.apply


def softmax(x):
    weights = torch.exp(x - x.detach().amax(-1, keepdim=True))
    return weights / _Sum.apply(weights)


def layer_norm(x, weight, bias, eps):
    centred = x - _Sum.apply(x) / x.shape[-1]
    return _scaled(centred, weight, eps) + _Rows.apply(bias, len(x))


def rms_norm(x, weight, eps):
    return _scaled(x, weight, eps)


def _scaled(x, weight, eps):
    scale = torch.sqrt(_Sum.apply(x * x) / x.shape[-1] + eps)
    return x / scale * _Rows.apply(weight, len(x))


def gelu(x):
    return 0.5 * x * (1 + torch.erf(x * 0.5**0.5))


def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x * x * x)))


def silu(x):
    return x / (1 + torch.exp(-x))


def cross_entropy(x, targets):
    largest = x.detach().amax(-1, keepdim=True)
    log_sums = torch.log(_Sum.apply(torch.exp(x - largest))) + largest
    losses = log_sums - x.gather(1, targets[:, None])
    return _Sum.apply(losses[:, 0])[0] / len(x)


def causal_attention(q, k, v):
    """[pos, d] each."""
    scores = product(q, k.t()) / q.shape[-1] ** 0.5
    hidden = torch.ones(scores.shape, dtype=torch.bool).triu(1)
    return product(softmax(scores.masked_fill(hidden, float("-inf"))), v)


def selective_scan(x):
    u, delta, A, B, C, D, z = x
    delta = torch.log(1 + torch.exp(delta))
    h, ys = torch.zeros(u.shape[0], *A.shape), []
    for t in range(u.shape[1]):
        step = delta[:, t, :, None]
        h = torch.exp(step * A) * h + step * B[:, t, None] * u[:, t, :, None]
        ys.append(_Sum.apply(h * C[:, t, None])[..., 0])
    return (torch.stack(ys, 1) + D * u) * silu(z)


def ssd(x):
    """A step after the other."""
    u, dt, A, B, C, D = x
    delta = torch.log(1 + torch.exp(dt))
    h, ys = torch.zeros(u.shape[0], *u.shape[2:], B.shape[-1]), []
    for t in range(u.shape[1]):
        step = delta[:, t, :, None, None]
        h = torch.exp(step * A[:, None, None]) * h + step * u[:, t, ..., None] * B[:, t, :, None]
        ys.append(_Sum.apply(h * C[:, t, :, None])[..., 0])
    return torch.stack(ys, 1) + D[:, None] * u
