"""utf8proc 2.8.0, Unicode's character classes and normal forms (Unicode 15)."""

load("@bazel_tools//tools/build_defs/repo:utils.bzl", "maybe")
load("//third_party:system_or_http.bzl", "system_or_http")

def utf8proc_repository():
    maybe(
        system_or_http,
        name = "utf8proc",
        aliases = {"": ["utf8proc"]},
        debian_package = "libutf8proc-dev",
        http_build_file = Label("//third_party/utf8proc:utf8proc.BUILD"),
        include_dirs = ["utf8proc.h"],
        lib_glob_prefix = "libutf8proc",
        libs = ["utf8proc"],
        probe = "utf8proc.h",
        sha256 = "a0a60a79fe6f6d54e7d411facbfcc867a6e198608f2cd992490e46f04b1bcecc",
        strip_prefix = "utf8proc-2.8.0",
        urls = ["https://github.com/JuliaStrings/utf8proc/archive/refs/tags/v2.8.0.tar.gz"],
    )
