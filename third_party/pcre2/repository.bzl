"""PCRE2 10.42, regular expressions with Unicode classes and limits on backtracking."""

load("@bazel_tools//tools/build_defs/repo:utils.bzl", "maybe")
load("//third_party:system_or_http.bzl", "system_or_http")

def pcre2_repository():
    maybe(
        system_or_http,
        name = "pcre2",
        aliases = {"": ["pcre2"]},
        debian_package = "libpcre2-dev",
        http_build_file = Label("//third_party/pcre2:pcre2.BUILD"),
        include_dirs = ["pcre2.h"],
        lib_glob_prefix = "libpcre2-8",
        libs = ["pcre2-8"],
        linkopts = ["-pthread"],
        probe = "pcre2.h",
        sha256 = "c33b418e3b936ee3153de2c61cc638e7e4fe3156022a5c77d0711bcbb9d64f1f",
        strip_prefix = "pcre2-10.42",
        urls = [
            "https://github.com/PCRE2Project/pcre2/releases/download/pcre2-10.42/pcre2-10.42.tar.gz",
            "http://deb.debian.org/debian/pool/main/p/pcre2/pcre2_10.42.orig.tar.gz",
        ],
    )
