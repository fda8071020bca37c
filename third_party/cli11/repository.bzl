"""CLI11 2.1.2, command line flags. Headers only."""

load("@bazel_tools//tools/build_defs/repo:utils.bzl", "maybe")
load("//third_party:system_or_http.bzl", "system_or_http")

def cli11_repository():
    maybe(
        system_or_http,
        name = "cli11",
        aliases = {"": ["cli11"]},
        debian_package = "libcli11-dev",
        http_build_file = Label("//third_party/cli11:cli11.BUILD"),
        include_dirs = ["CLI"],
        probe = "CLI/App.hpp",
        sha256 = "26291377e892ba0e5b4972cdfd4a2ab3bf53af8dac1f4ea8fe0d1376b625c8cb",
        strip_prefix = "CLI11-2.1.2",
        urls = ["https://github.com/CLIUtils/CLI11/archive/refs/tags/v2.1.2.tar.gz"],
    )
