"""The row of a whole S4D model: a training step of the classifier of sequential images, in PyTorch as
in the authors' s4d.py and example.py (channels before positions, FFT of twice the length)."""

import dataclasses

import torch
import torch.nn.functional as F

from model_rows import read_safetensors
from race import Contest, note, write_raw


class S4D(torch.nn.Module):
    def __init__(self, weights):
        super().__init__()
        fast = ("log_A_real", "A_imag", "B", "log_dt")
        for name in fast + ("C", "D"):
            self.register_parameter(name, torch.nn.Parameter(weights[f"mixer.{name}"].clone()))
        H = len(self.D)
        self.output = torch.nn.Conv1d(H, 2 * H, 1)
        joined = [weights[f"mixer.{n}_proj"].t() for n in ("out", "gate")]
        self.output.weight = torch.nn.Parameter(torch.cat(joined).contiguous()[..., None])
        biases = [weights[f"mixer.{n}_proj_bias"] for n in ("out", "gate")]
        self.output.bias = torch.nn.Parameter(torch.cat(biases))

    def kernel(self, L):
        dt = self.log_dt.exp()
        A = -self.log_A_real.exp() + 1j * self.A_imag
        C = torch.view_as_complex(self.C) * torch.view_as_complex(self.B)
        dtA = A * dt[:, None]
        K = dtA[..., None] * torch.arange(L)
        C = C * (dtA.exp() - 1.0) / A
        return 2 * torch.einsum("hn,hnl->hl", C, K.exp()).real

    def forward(self, u):  # [batch, channel, position]
        L = u.size(-1)
        k = torch.fft.rfft(self.kernel(L), n=2 * L)
        y = torch.fft.irfft(torch.fft.rfft(u, n=2 * L) * k, n=2 * L)[..., :L]
        return F.glu(self.output(F.gelu(y + u * self.D[:, None])), dim=-2)


class Model(torch.nn.Module):
    def __init__(self, weights, layers):
        super().__init__()

        def linear(name):
            layer = torch.nn.Linear(*weights[name].shape)
            layer.weight = torch.nn.Parameter(weights[name].t().contiguous())
            layer.bias = torch.nn.Parameter(weights[name + "_bias"].clone())
            return layer

        def norm(name):
            layer = torch.nn.LayerNorm(len(weights[name + ".w"]))
            layer.weight = torch.nn.Parameter(weights[name + ".w"].clone())
            layer.bias = torch.nn.Parameter(weights[name + ".b"].clone())
            return layer

        self.encoder, self.head = linear("encoder"), linear("head")
        self.mixers, self.norms = torch.nn.ModuleList(), torch.nn.ModuleList()
        for layer in range(layers):
            prefix = f"blocks.{layer}."
            own = {n[len(prefix) :]: w for n, w in weights.items() if n.startswith(prefix)}
            self.mixers.append(S4D(own))
            self.norms.append(norm(prefix + "ln1"))
        self.final = norm("ln_final")

    def forward(self, x, labels):
        x = self.encoder(2 * x - 1).transpose(-1, -2)
        for mixer, norm in zip(self.mixers, self.norms):
            x = x + mixer(norm(x.transpose(-1, -2)).transpose(-1, -2))
        pooled = self.final(x.transpose(-1, -2)).mean(1)
        return F.cross_entropy(self.head(pooled), labels)


class TorchTraining:
    def __init__(self, model, x, labels, lr, weight_decay):
        fast = ("log_A_real", "A_imag", "B", "log_dt")  # at most 1e-3, without decay
        slow, decayed, others = [], [], []
        for name, p in model.named_parameters():
            last = name.split(".")[-1]
            if last in fast:
                slow.append(p)
            elif last in ("C", "D") or p.dim() >= 2:
                decayed.append(p)
            else:
                others.append(p)
        groups = [
            {"params": slow, "weight_decay": 0.0, "lr": min(lr, 1e-3)},
            {"params": decayed, "weight_decay": weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.adam = torch.optim.AdamW(groups, lr=lr, fused=True)
        self.model, self.x, self.labels, self.losses = model, x, labels, []

    def __call__(self):
        self.adam.zero_grad(set_to_none=True)
        loss = self.model(self.x, self.labels)
        loss.backward()
        self.adam.step()
        self.losses.append(loss.item())


@dataclasses.dataclass
class S4DTrainingRow:
    layers: int = 4
    d_model: int = 128
    d_state: int = 64
    length: int = 784
    batch: int = 50
    goal: float = 3.0
    threads: tuple = (2, 1)

    name, dtype, lr, weight_decay = "S4D training step", "f32", 5e-3, 0.01

    @property
    def shape(self):
        return (
            f"layers={self.layers} H={self.d_model} N={self.d_state} L={self.length} B={self.batch}"
        )

    def title(self):
        return f"{self.name} {self.shape} {self.dtype}"

    def contests(self, race):
        x = torch.rand((self.batch, self.length, 1), generator=torch.Generator().manual_seed(1))
        labels = torch.arange(self.batch) % 10
        write_raw(x, f"{race.folder}/values")
        race.server.ask(
            do="classifier",
            d_model=self.d_model,
            d_state=self.d_state,
            n_layers=self.layers,
            batch=self.batch,
            length=self.length,
            values=f"{race.folder}/values",
            weights=f"{race.folder}/weights.safetensors",
            lr=self.lr,
            weight_decay=self.weight_decay,
        )
        weights = read_safetensors(f"{race.folder}/weights.safetensors")
        torch.set_num_threads(2)
        training = TorchTraining(
            Model(weights, self.layers), x, labels, self.lr, self.weight_decay
        )
        steps = min(10, race.training_steps)
        for _ in range(steps):
            training()
        race.server.ask(do="time", threads=2, seconds=0, repeat=steps, warm=False)
        ours = race.server.ask(do="losses")["losses"][:steps]
        difference = max(abs(a - b) for a, b in zip(ours, training.losses))
        note(f"  losses of {steps} steps: {ours[0]:.4f} to {ours[-1]:.4f}")
        for threads in self.threads:
            yield Contest(
                self.name,
                self.shape,
                self.dtype,
                threads,
                [training],
                self.goal,
                error_ours=difference,
                error_peer=0.0,
            )


def all_rows():
    return [S4DTrainingRow()]
