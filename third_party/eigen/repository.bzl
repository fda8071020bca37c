"""Eigen 3.4.0: small dense decompositions. Headers only."""

load("@bazel_tools//tools/build_defs/repo:utils.bzl", "maybe")
load("//third_party:system_or_http.bzl", "system_or_http")

def eigen_repository():
    maybe(
        system_or_http,
        name = "eigen",
        aliases = {"": ["eigen"]},
        debian_package = "libeigen3-dev",
        http_build_file = Label("//third_party/eigen:eigen.BUILD"),
        include_dirs = ["eigen3"],
        includes = ["eigen3"],
        probe = "eigen3/Eigen/Core",
        sha256 = "8586084f71f9bde545ee7fa6d00288b264a2b7ac3607b974e54d13e7162c1c72",
        strip_prefix = "eigen-3.4.0",
        urls = ["https://gitlab.com/libeigen/eigen/-/archive/3.4.0/eigen-3.4.0.tar.gz"],
    )
