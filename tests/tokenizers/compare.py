"""Compares //tools:tokenize with Hugging Face's `tokenizers` on many strings.

    pip install tokenizers
    ./bazelw build //tools:tokenize
    python3 tests/tokenizers/compare.py --tool=bazel-bin/tools/tokenize --text=FILE \\
        [--kinds] [--strings=100000] [--seed=1] [FOLDER ..]

Each FOLDER holds a tokenizer.json; both load it, encode the same random and adversarial strings and
decode the same random ids. With --text, both learn vocabularies from that text, which must be equal
(tokens, ids and merges), and what ours wrote is compared like the folders. The last line is
'N compared, N different'; exit code 1 if any differ.

With --kinds, tokenizers of every kind (normalizers, pre-tokenizers, models and decoders that published
ones use, learned from the texts) are made with `tokenizers` and compared too.

Strings hold only characters that Unicode 14 (this Python's) has, and that `tokenizers` normalizes and
classes as it does: its tables are of Unicode 7, 9 and 16, each part has its own.
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

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

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


_CLEAN = normalizers.BertNormalizer(
    clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)
_NO_ACCENTS = normalizers.BertNormalizer(
    clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)


def _classed_alike(c, category):
    split = len(pre_tokenizers.BertPreTokenizer().pre_tokenize_str("a" + c + "b"))
    return ((split == 3) == (category[0] == "P" or (c < "\x80" and category[0] == "S"))
            and (_CLEAN.normalize_str("a" + c + "b") == "ab") == (
                c in "\0\ufffd" or category in ("Cc", "Cf", "Co") and c not in "\t\n\r")
            and (_NO_ACCENTS.normalize_str("a" + c + "b") == "ab") == (category == "Mn")
            and (normalizers.StripAccents().normalize_str("a" + c + "b") == "ab") == (
                category[0] == "M")
            and len(pre_tokenizers.Whitespace().pre_tokenize_str("a" + c + "b")) == (
                1 if category[0] in "LM" or category in ("Nd", "Nl", "Pc") or c in "\u200c\u200d"
                or "\u24b6" <= c <= "\u24e9" else
                2 if c.isspace() and not "\x1c" <= c <= "\x1f" else 3))


@functools.lru_cache(maxsize=None)
def _known_to_both(c):
    category = unicodedata.category(c)
    if category in ("Cn", "Cs") or not _classed_alike(c, category):
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


_LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
           r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def kinds(texts):
    """Yields (name, tokenizer): learned from the texts, one for every kind of part."""

    def learned(model, trainer, normalizer, pre_tokenizer, decoder):
        tokenizer = Tokenizer(model)
        if normalizer:
            tokenizer.normalizer = normalizer
        if pre_tokenizer:
            tokenizer.pre_tokenizer = pre_tokenizer
        if decoder:
            tokenizer.decoder = decoder
        tokenizer.train_from_iterator([line for text in texts for line in text.splitlines()], trainer)
        return tokenizer

    n, p, d = normalizers, pre_tokenizers, decoders
    special = ["<unk>", "<s>", "</s>", "[MASK]"]
    byte_tokens = ["<0x%02X>" % byte for byte in range(256)]
    byte_bpe = dict(vocab_size=2000, show_progress=False, special_tokens=special,
                    initial_alphabet=p.ByteLevel.alphabet())
    for name, pre in (
            ("llama3", p.Sequence([p.Split(Regex(_LLAMA3), "isolated"),
                                   p.ByteLevel(add_prefix_space=False, use_regex=False)])),
            ("digits", p.Sequence([p.Digits(individual_digits=True),
                                   p.ByteLevel(add_prefix_space=True)])),
            ("punctuation", p.Sequence([p.Punctuation("contiguous"),
                                        p.ByteLevel(add_prefix_space=False)])),
            ("merged", p.Sequence([p.Split(Regex(r"\s+|\d"), "merged_with_previous"),
                                   p.Split("e", "merged_with_next"),
                                   p.ByteLevel(add_prefix_space=False, use_regex=False)]))):
        yield "bytes-" + name, learned(models.BPE(), trainers.BpeTrainer(**byte_bpe), None, pre,
                                       d.ByteLevel())
    for scheme in ("always", "first", "never"):
        for split in (True, False):
            # As T5 has it; and as Llama's.
            pre = p.Metaspace(prepend_scheme=scheme, split=split)
            if scheme == "always" and not split:
                pre = p.Sequence([p.WhitespaceSplit(), pre])
            yield "unigram-%s-%s" % (scheme, split), learned(
                models.Unigram(), trainers.UnigramTrainer(
                    vocab_size=800, show_progress=False, special_tokens=special, unk_token="<unk>"),
                n.Sequence([n.Nmt(), n.NFKC(), n.Replace(Regex(" {2,}"), " ")]), pre,
                d.Metaspace(prepend_scheme=scheme))
    yield "spm-bpe", learned(
        models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True),
        trainers.BpeTrainer(vocab_size=1500, show_progress=False, special_tokens=special + byte_tokens),
        n.Sequence([n.Prepend("\u2581"), n.Replace(" ", "\u2581")]),
        p.Split("\u2581", "merged_with_next"),
        d.Sequence([d.Replace("\u2581", " "), d.ByteFallback(), d.Fuse(), d.Strip(" ", 1, 0)]))
    for lowercase in (True, False):
        yield "wordpiece-%s" % lowercase, learned(
            models.WordPiece(unk_token="<unk>", max_input_chars_per_word=20),
            trainers.WordPieceTrainer(vocab_size=1500, show_progress=False, special_tokens=special),
            n.BertNormalizer(lowercase=lowercase), p.BertPreTokenizer(), d.WordPiece())
    yield "words", learned(
        models.WordLevel(unk_token="<unk>"),
        trainers.WordLevelTrainer(vocab_size=1000, show_progress=False, special_tokens=special),
        n.Sequence([n.NFD(), n.StripAccents(), n.Lowercase(), n.Strip()]), p.Whitespace(), None)


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
    parser.add_argument("--kinds", action="store_true")
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
        if args.kinds:
            for name, tokenizer in kinds(texts):
                folders.append(os.path.join(scratch, name))
                os.mkdir(folders[-1])
                tokenizer.save(os.path.join(folders[-1], "tokenizer.json"))
        for folder in folders:
            comparison.folder(folder, strings(args.strings, args.seed, texts), args.seed)
            print("%s: %d compared, %d different" % (
                folder, comparison.compared, comparison.different), flush=True)
    print("%d compared, %d different" % (comparison.compared, comparison.different))
    sys.exit(1 if comparison.different else 0)


if __name__ == "__main__":
    main()
