"""Makes models/text/sentence_piece/testdata: a small SentencePiece model and what it says of texts.

    pip install sentencepiece==0.2.3
    python3 tests/tokenizers/make_sentence_piece.py README.md models/text/sentence_piece/testdata

The model is learned from the text: unigram, byte fallback, user-defined symbols, and rules of
normalisation of its own.
"""

import base64
import json
import os
import sys
import tempfile

import sentencepiece

TEXTS = [
    "", " ", "a", "the stream", "  two  spaces  ", "Every tool that looks at the stream.",
    "A [CLS] B[SEP]C", "[CLS", "\ufb01ne ABC", "na\u00efve caf\u00e9", "\u4e2d\u6587 \U0001f600",
    "line\nbreak\ttab", "\u2581x", "1234567890", "<unk> <s> </s>", "e\u0301",
]


def charsmap(model):
    """Field 2 of field 3 (normalizer_spec.precompiled_charsmap) of a serialized model."""

    def fields(data):
        at = 0
        while at < len(data):
            key, at = varint(data, at)
            if key & 7 == 2:
                size, at = varint(data, at)
                yield key >> 3, data[at : at + size]
                at += size
            elif key & 7 == 0:
                _, at = varint(data, at)
            else:
                at += 4 if key & 7 == 5 else 8

    def varint(data, at):
        value = shift = 0
        while True:
            value |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if data[at - 1] < 128:
                return value, at

    spec = next(body for number, body in fields(model) if number == 3)
    return next(body for number, body in fields(spec) if number == 2)


def main():
    text, folder = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        rules = os.path.join(scratch, "rules.tsv")
        with open(rules, "w", encoding="ascii") as f:
            f.write("FB01\t66 69\n41\t61\n42\t62\n65 301\tE9\n1F600\t3A 29\n9\t20\n")
        sentencepiece.SentencePieceTrainer.train(
            input=text, model_prefix=os.path.join(scratch, "tiny"), vocab_size=400,
            model_type="unigram", byte_fallback=True, user_defined_symbols=["[CLS]", "[SEP]"],
            normalization_rule_tsv=rules, minloglevel=2, num_threads=1)
        with open(os.path.join(scratch, "tiny.model"), "rb") as f:
            model = f.read()
    with open(os.path.join(folder, "tiny.model"), "wb") as f:
        f.write(model)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    cases = [{"text": t, "ids": processor.encode(t), "decoded": processor.decode(processor.encode(t))}
             for t in TEXTS]
    with open(os.path.join(folder, "tiny.json"), "w", encoding="ascii") as f:
        json.dump({"vocab_size": processor.get_piece_size(), "cases": cases,
                   "charsmap": base64.b64encode(charsmap(model)).decode(),
                   "normalized": [[t, processor.normalize(t)] for t in TEXTS]}, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
