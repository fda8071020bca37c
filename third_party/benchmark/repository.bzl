"""Google Benchmark 1.7.1."""

load("@bazel_tools//tools/build_defs/repo:utils.bzl", "maybe")
load("//third_party:system_or_http.bzl", "system_or_http")

def benchmark_repository():
    maybe(
        system_or_http,
        name = "com_google_benchmark",
        aliases = {"": ["benchmark", "benchmark_main"]},
        debian_package = "libbenchmark-dev",
        include_dirs = ["benchmark"],
        lib_glob_prefix = "libbenchmark",
        libs = ["benchmark_main", "benchmark"],
        linkopts = ["-pthread"],
        probe = "benchmark/benchmark.h",
        sha256 = "6430e4092653380d9dc4ccb45a1e2dc9259d581f4866dc0759713126056bc1d7",
        strip_prefix = "benchmark-1.7.1",
        urls = ["https://github.com/google/benchmark/archive/refs/tags/v1.7.1.tar.gz"],
    )
