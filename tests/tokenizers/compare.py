"""Compares //tools:tokenize with Hugging Face's `tokenizers` on many strings.

    pip install tokenizers
    ./bazelw build //tools:tokenize
    python3 tests/tokenizers/compare.py --tool=bazel-bin/tools/tokenize --text=FILE \\
        [--strings=100000] [--seed=1] [FOLDER ..]

Each FOLDER holds a tokenizer.json; both load it, encode the same random and adversarial strings and
decode the same random ids. With --text, both learn vocabularies from that text, which must be equal
(tokens, ids and merges), and what ours wrote is compared like the folders. The last line is
'N compared, N different'; exit code 1 if any differ.

Strings hold only characters that Unicode 14 (this Python's) has, and that `tokenizers` normalizes as
it does: its tables of normal forms are of Unicode 9, its classes of characters of Unicode 16.
"""

import argparse
import functools
import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

_PIECES = [
    "'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "\u2019s", "''", "don't", "I'LL", "'",
    " ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n", "\n ", "\u00a0", "\u3000", "\u2028",
    "\u0085", "\u200b", "\ufeff", "\0", "\x1f", "\x7f", "hello", " world", "The", "2024", " 3.14",
    "\u00bd", "\u2167", "\u0664\u0665", "e\u0301", "\u00e9", "\u1ebf", "\u1112\u1161\u11ab",
    "\ud55c", "\ufb01", "\u00b2", "\u4e2d\u6587", "\u65e5\u672c\u8a9e", "\u0645\u0631\u062d",
    "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0e2a\u0e27", "\U0001f600", "\U0001f468\u200d\U0001f469",
    "\U0001f1e9\U0001f1ea", "\u2764\ufe0f", "_", "__init__", "->", "!=", "...", "<|", "|>",
    "<|endoftext|>", "<|padding|>", "<|endoftext", "http://a.b/c?d=e&f#g", "aaaaaaaa", "ababab",
    "\\", "\"", "{", "}", "\U0010ffff", "\ue000", "\u0300\u0301\u0302", "\u0130", "\u00df", "\u01c5",
]


_NORMAL_FORMS = [(form, getattr(normalizers, form)()) for form in ("NFC", "NFD", "NFKC", "NFKD")]


@functools.lru_cache(maxsize=None)
def _known_to_both(c):
    if unicodedata.category(c) in ("Cn", "Cs"):
        return False
    return all(theirs.normalize_str(s) == unicodedata.normalize(form, s)
               for form, theirs in _NORMAL_FORMS for s in (c, "\u0301" + c, c + "\u0323"))


def _any_character(rng):
    while True:
        c = chr(rng.choice((rng.randrange(0x80), rng.randrange(0x800), rng.randrange(0x3000),
                            rng.randrange(0x10000), rng.randrange(0x110000))))
        if _known_to_both(c):
            return c


def strings(count, seed, texts):
    """Yields `count` strings: pieces that tokenizers stumble on, random characters, real text."""
    rng = random.Random(seed)
    for i in range(count):
        kind = i % 4
        if kind == 0:
            yield "".join(rng.choice(_PIECES) for _ in range(rng.randrange(12)))
        elif kind == 1:
            yield "".join(_any_character(rng) for _ in range(rng.randrange(24)))
        elif kind == 2 and texts:
            text = rng.choice(texts)
            begin = rng.randrange(len(text))
            yield text[begin:begin + rng.randrange(200)]
        else:
            yield "".join(rng.choice(_PIECES) if rng.random() < 0.3 else
                          _any_character(rng) if rng.random() < 0.2 else
                          chr(rng.randrange(32, 127)) for _ in range(rng.randrange(40)))


class Comparison:
    """Counts what was compared and shows the first differences."""

    def __init__(self, tool):
        self._tool = tool
        self.compared = self.different = 0

    def check(self, what, ours, theirs):
        self.compared += 1
        if ours != theirs:
            self.different += 1
            if self.different <= 20:
                print("different: %s\n  ours   %.300r\n  theirs %.300r" % (what, ours, theirs))

    def run(self, *args, lines=()):
        done = subprocess.run([self._tool] + list(args), capture_output=True, check=False,
                              input="".join(json.dumps(line) + "\n" for line in lines).encode())
        if done.returncode:
            sys.exit("%s: exit code %d: %s" % (self._tool, done.returncode, done.stderr.decode()))
        return [json.loads(line) for line in done.stdout.decode().splitlines()]

    def folder(self, folder, texts, seed):
        theirs = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        texts = list(texts)
        encoded = self.run("--tokenizer=" + folder, lines=texts)
        if len(encoded) != len(texts):
            sys.exit("%d results for %d strings" % (len(encoded), len(texts)))
        for text, ids in zip(texts, encoded):
            want = theirs.encode(text, add_special_tokens=False).ids
            self.check("%s encodes %r" % (folder, text), ids, want)
        rng = random.Random(seed)
        known = [i for i in range(theirs.get_vocab_size()) if theirs.id_to_token(i) is not None]
        lists = [[rng.choice(known) for _ in range(rng.randrange(20))]
                 for _ in range(len(texts) // 10)]
        decoded = self.run("--tokenizer=" + folder, "--decode", lines=lists)
        for ids, text in zip(lists, decoded):
            want = theirs.decode(ids, skip_special_tokens=False)
            self.check("%s decodes %r" % (folder, ids), text, want)

    def learn(self, path, vocab_size, folder):
        """Both learn from a text; the vocabularies must be equal."""
        self.run("--learn=" + path, "--vocab_size=%d" % vocab_size, "--tokenizer=" + folder,
                 "--json")
        theirs = Tokenizer(models.BPE())
        theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        theirs.decoder = decoders.ByteLevel()
        with open(path, encoding="utf-8", newline="") as f:
            theirs.train_from_iterator([f.read()], trainers.BpeTrainer(
                vocab_size=vocab_size, min_frequency=2, show_progress=False,
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as f:
            ours = json.load(f)["model"]
        want = json.loads(theirs.to_str())["model"]
        self.check("vocabulary of %d learned from %s" % (vocab_size, path), ours["vocab"],
                   want["vocab"])
        self.check("merges of %d learned from %s" % (vocab_size, path),
                   ours["merges"], [list(m) if isinstance(m, list) else m.split(" ")
                                    for m in want["merges"]])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--tool", default="bazel-bin/tools/tokenize")
    parser.add_argument("--text", action="append", default=[])
    parser.add_argument("--strings", type=int, default=100000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    texts = [open(path, encoding="utf-8", newline="").read() for path in args.text]
    comparison = Comparison(args.tool)
    with tempfile.TemporaryDirectory() as scratch:
        folders = list(args.folders)
        for i, path in enumerate(args.text):
            for vocab_size in (257, 1000, 8192):
                folder = os.path.join(scratch, "%d-%d" % (i, vocab_size))
                comparison.learn(path, vocab_size, folder)
            folders.append(folder)
        for folder in folders:
            comparison.folder(folder, strings(args.strings, args.seed, texts), args.seed)
            print("%s: %d compared, %d different" % (
                folder, comparison.compared, comparison.different), flush=True)
    print("%d compared, %d different" % (comparison.compared, comparison.different))
    sys.exit(1 if comparison.different else 0)


if __name__ == "__main__":
    main()
