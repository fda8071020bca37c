"""SentencePiece, the reference for spiece.model files: Debian's, else 0.2.0 from PyPI's sources."""

load("@bazel_tools//tools/build_defs/repo:utils.bzl", "maybe")
load("//third_party:system_or_http.bzl", "system_or_http")

def sentencepiece_repository():
    maybe(
        system_or_http,
        name = "sentencepiece",
        aliases = {"": ["sentencepiece"]},
        debian_package = "libsentencepiece-dev",
        http_build_file = Label("//third_party/sentencepiece:sentencepiece.BUILD"),
        include_dirs = ["sentencepiece_processor.h"],
        lib_glob_prefix = "libsentencepiece",
        libs = ["sentencepiece"],
        probe = "sentencepiece_processor.h",
        sha256 = "a52c19171daaf2e697dc6cbe67684e0fa341b1248966f6aebb541de654d15843",
        strip_prefix = "sentencepiece-0.2.0/sentencepiece",
        urls = ["https://files.pythonhosted.org/packages/c9/d2/b9c7ca067c26d8ff085d252c89b5f69609ca93fb85a00ede95f4857865d4/sentencepiece-0.2.0.tar.gz"],
    )
