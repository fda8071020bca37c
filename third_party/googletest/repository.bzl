"""GoogleTest 1.12.1."""

load("@bazel_tools//tools/build_defs/repo:utils.bzl", "maybe")
load("//third_party:system_or_http.bzl", "system_or_http")

def googletest_repository():
    maybe(
        system_or_http,
        name = "com_google_googletest",
        aliases = {"": ["gtest", "gtest_main"]},
        debian_package = "libgtest-dev libgmock-dev",
        include_dirs = ["gtest", "gmock"],
        lib_glob_prefix = "libgtest",
        libs = ["gtest_main", "gtest", "gmock"],
        linkopts = ["-pthread"],
        probe = "gtest/gtest.h",
        sha256 = "81964fe578e9bd7c94dfdb09c8e4d6e6759e19967e397dbea48d1c10e45d0df2",
        strip_prefix = "googletest-release-1.12.1",
        urls = ["https://github.com/google/googletest/archive/refs/tags/release-1.12.1.tar.gz"],
    )
