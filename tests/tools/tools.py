"""What the tests of command-line tools share: running one, and small model folders."""

import json
import os
import shutil
import struct
import subprocess
import tempfile


class Outcome:
    """Exit code, stdout (bytes) and stderr (text) of a run."""

    def __init__(self, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr.decode()

    def json(self):
        return json.loads(self.out)

    def lines(self):
        return [json.loads(line) for line in self.out.splitlines()]


def run(tool, *args, stdin=b"", env=None):
    """Runs tools/TOOL from the runfiles."""
    return Outcome(subprocess.run(
        [os.path.join("tools", tool)] + list(args), input=stdin, capture_output=True, check=False,
        env=dict(os.environ, **(env or {}))))


def golden(name):
    return os.path.join("tests", "goldens", name)


def folder_with_tokenizer(text, vocab_size):
    """A folder with the model gpt2_tiny (vocabulary 311) and a tokenizer learned from `text`."""
    folder = tempfile.mkdtemp(dir=os.environ["TEST_TMPDIR"])
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(os.path.join(golden("gpt2_tiny"), name), os.path.join(folder, name))
    learned = run("tokenize", "--learn=" + write("learn.txt", text),
                  "--vocab_size=%d" % vocab_size, "--tokenizer=" + folder)
    if learned.code:
        raise AssertionError(learned.err)
    return folder


def begin_texts_with(folder, token):
    """Makes the folder's tokenizer.json put this token before a text, as Llama's does with <s>."""
    path = os.path.join(folder, "tokenizer.json")
    with open(path, encoding="utf-8") as f:
        tokenizer = json.load(f)
    written = next(text for text, i in tokenizer["model"]["vocab"].items() if i == token)
    tokenizer["added_tokens"] = [{"id": token, "content": written, "special": True}]
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "begin", "type_id": 0}},
                   {"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {"begin": {"id": "begin", "ids": [token], "tokens": [written]}}}
    with open(path, "w", encoding="utf-8") as f:
        json.dump(tokenizer, f)


def write(name, text):
    """A file of this text; returns its path."""
    path = os.path.join(tempfile.mkdtemp(dir=os.environ["TEST_TMPDIR"]), name)
    with open(path, "wb") as f:
        f.write(text if isinstance(text, bytes) else text.encode())
    return path


def read_safetensors(path):
    """{name: (shape, values)} of the float32 and float64 tensors of a file."""
    with open(path, "rb") as f:
        data = f.read()
    size = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, info in json.loads(data[8:8 + size]).items():
        if name != "__metadata__" and info["dtype"] in ("F32", "F64"):
            begin, end = info["data_offsets"]
            code, width = ("f", 4) if info["dtype"] == "F32" else ("d", 8)
            values = struct.unpack("<%d%s" % ((end - begin) // width, code),
                                   data[8 + size + begin:8 + size + end])
            tensors[name] = (info["shape"], values)
    return tensors


def read_integers(path, name):
    """The values of an int64 tensor of a file."""
    with open(path, "rb") as f:
        data = f.read()
    size = struct.unpack("<Q", data[:8])[0]
    begin, end = json.loads(data[8:8 + size])[name]["data_offsets"]
    return struct.unpack("<%dq" % ((end - begin) // 8), data[8 + size + begin:8 + size + end])


def write_safetensors(tensors):
    """A file of float64 tensors {name: (shape, values)}; returns its path."""
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        bytes_ = struct.pack("<%dd" % len(values), *values)
        header[name] = {"dtype": "F64", "shape": shape,
                        "data_offsets": [len(data), len(data) + len(bytes_)]}
        data += bytes_
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return write("tensors.safetensors", struct.pack("<Q", len(text)) + text + data)


def write_token_file(ids):
    """A safetensors file with input_ids [1, len(ids)]; returns its path."""
    header = json.dumps({"input_ids": {"dtype": "I64", "shape": [1, len(ids)],
                                       "data_offsets": [0, 8 * len(ids)]}}).encode()
    header += b" " * (-len(header) % 8)
    return write("tokens.safetensors",
                 struct.pack("<Q", len(header)) + header + struct.pack("<%dq" % len(ids), *ids))


class ToolTest:
    """Mixed into a unittest.TestCase: what holds for every tool."""

    def assert_fails(self, outcome, code, *parts):
        """One line on stderr with these parts, the exit code, nothing on stdout."""
        self.assertEqual(outcome.code, code, outcome.err)
        self.assertEqual(outcome.out, b"")
        self.assertEqual(outcome.err.count("\n"), 1, outcome.err)
        for part in parts:
            self.assertIn(part, outcome.err)

    def assert_common(self, tool):
        """--help, an unknown flag and a stray argument."""
        shown = run(tool, "--help")
        self.assertEqual((shown.code, shown.err), (0, ""))
        for part in (b"Example:", b"bazel run //tools:" + tool.encode(), b"--json", b"--threads"):
            self.assertIn(part, shown.out)
        self.assert_fails(run(tool, "--jsn"), 2)
        self.assert_fails(run(tool), 2)
