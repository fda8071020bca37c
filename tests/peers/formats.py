#!/usr/bin/env python3
"""Holds //tools:generate in every format of weights to float64.

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install torch==2.13.0 transformers
    /tmp/peers/bin/python tests/peers/formats.py

GPT-2 with random weights, saved by Hugging Face in f32, f16 and bf16. //tools:generate continues a
prompt greedily; Hugging Face's model reads the same tokens in float64, with the weights as the
format has them: those of the file widened, or rounded to 8 bits here in numpy as the contract of
ops/quantized/quantized.h says, which shares no code with ours. Each row is the largest difference
between the log-probabilities of the tokens, and how often ours took a token that float64 finds
less probable than another by more than that difference allows. The exit code is 1 if a bound does
not hold: 2e-5 where products are of f32, 0.1 where operands are rounded to bf16.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
GROUP = 64

# file's dtype, flags, whether weights are rounded to 8 bits, the dtype weights are held in, bound
FORMATS = (
    ("f32", [], False, None, 2e-5),
    ("f32", ["--no_mmap"], False, None, 2e-5),
    ("f32", ["--dtype=bf16"], False, "bf16", 2e-5),
    ("f32", ["--dtype=f16"], False, "f16", 2e-5),
    ("f16", [], False, None, 2e-5),
    ("bf16", [], False, None, 2e-5),
    ("f32", ["--quantize=int8"], True, None, 2e-5),
    ("f16", ["--quantize=int8"], True, None, 2e-5),
    ("bf16", ["--quantize=int8"], True, None, 2e-5),
    ("bf16", ["--precision=bf16"], False, None, 0.1),
    ("f32", ["--precision=bf16"], False, "bf16", 0.1),
    ("bf16", ["--quantize=int8", "--precision=bf16"], True, None, 0.1),
)


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=32, help="to continue a prompt of 300 by")
    parser.add_argument("--bin", help="bazel-bin, with //tools:generate built already")
    return parser.parse_args()


def in_8_bits(w):
    """w [rows, columns] rounded: scales of groups of 64 columns, integers in [-127, 127].

    In f32, as the contract says: in doubles one weight of 16 bits in a thousand, halfway between two
    integers, goes to the other, which changes log-probabilities by up to 0.01.
    """
    import numpy as np

    rows, columns = w.shape
    padded = np.zeros((rows, -(-columns // GROUP) * GROUP), np.float32)
    padded[:, :columns] = w
    groups = padded.reshape(rows, -1, GROUP)
    most = np.abs(groups).max(-1, keepdims=True)
    scale = (most / np.float32(127)).astype(np.float64)
    with np.errstate(divide="ignore", over="ignore"):
        factor = np.float32(127) / most
    factor = np.where(np.isfinite(factor), factor, np.float32(0)).astype(np.float32)
    q = np.clip(np.rint(groups * factor), -127, 127).astype(np.float64)
    return (q * scale).reshape(padded.shape)[:, :columns]


def reference(folder, quantized, held):
    """Hugging Face's model in float64 with the weights that ours should compute with."""
    import torch
    import transformers

    dtypes = {"bf16": torch.bfloat16, "f16": torch.float16}
    model = transformers.GPT2LMHeadModel.from_pretrained(folder, dtype="auto").eval()
    model = model.to(torch.float64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() != 2:
                continue
            if held is not None:
                parameter.copy_(parameter.to(dtypes[held]))
            if quantized and "wpe" not in name:
                # A row for each output: Conv1D is [in, out], the embedding [out, in].
                w = parameter.numpy() if "wte" in name else parameter.numpy().T
                rounded = in_8_bits(w)
                rounded = rounded if "wte" in name else rounded.T
                parameter.copy_(torch.from_numpy(rounded.copy()))
    return model


def compare(binary, folder, case, prompt, count):
    import torch

    dtype, flags, quantized, held, bound = case
    command = [
        binary, f"--model={folder}", "--tokens=" + ",".join(map(str, prompt)),
        f"--max_new_tokens={count}", "--temperature=0", "--stop_at_eos=false", "--json", *flags,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    ours = json.loads(done.stdout)
    ids = torch.tensor([prompt + ours["tokens"]])
    model = reference(folder, quantized, held)
    with torch.no_grad():
        logits = model(ids[:, :-1], use_cache=False, logits_to_keep=count).logits[0]
    logprobs = torch.log_softmax(logits, -1)
    theirs = logprobs.gather(-1, ids[0, -count:, None])[:, 0]
    error = float((theirs - torch.tensor(ours["logprobs"], dtype=torch.float64)).abs().max())
    worse = int((theirs < logprobs.max(-1).values - 2 * bound).sum())
    return {
        "file": dtype,
        "flags": " ".join(flags),
        "error": error,
        "bound": bound,
        "worse_tokens": worse,
        "ok": error <= bound and worse == 0,
    }


def main():
    args = arguments()
    try:
        import torch
        import transformers
    except ImportError as error:
        sys.exit(f"formats.py: {error}; in a virtual environment: pip install torch transformers")
    if args.bin is None:
        done = subprocess.run(["./bazelw", "build", "//tools:generate"], cwd=ROOT, check=False)
        if done.returncode:
            sys.exit("formats.py: ./bazelw build //tools:generate failed")
    binary = str(pathlib.Path(args.bin or ROOT / "bazel-bin") / "tools/generate")
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    torch.manual_seed(1)
    # Larger weights than a new model's, so that logits differ as those of a trained one do.
    config = transformers.GPT2Config(n_layer=args.layers, initializer_range=0.06)
    model = transformers.GPT2LMHeadModel(config)
    prompt = torch.randint(config.vocab_size, (300,)).tolist()
    rows = []
    with tempfile.TemporaryDirectory() as root:
        for name, dtype in (("f32", None), ("f16", torch.float16), ("bf16", torch.bfloat16)):
            (model if dtype is None else model.to(dtype)).save_pretrained(f"{root}/{name}")
            model = transformers.GPT2LMHeadModel.from_pretrained(f"{root}/f32", dtype=torch.float32)
        for case in FORMATS:
            rows.append(compare(binary, f"{root}/{case[0]}", case, prompt, args.tokens))
            if not args.json:
                row = rows[-1]
                print(
                    f'{row["file"]:5} {row["flags"]:34} off by {row["error"]:.1e} of '
                    f'{row["bound"]:.0e}, {row["worse_tokens"]} worse tokens'
                    f'{"" if row["ok"] else "  MISSED"}',
                    flush=True,
                )
    if args.json:
        print(json.dumps({"rows": rows}, indent=1))
    sys.exit(0 if all(row["ok"] for row in rows) else 1)


if __name__ == "__main__":
    main()
