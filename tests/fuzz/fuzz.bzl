"""fuzz_test: a regression test over a corpus, and a libFuzzer program under --config=fuzz."""

load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_library", "cc_test")

def fuzz_test(name, srcs, corpus, deps = [], size = "small", tags = [], runs = 10000):
    """Sources that define LLVMFuzzerTestOneInput.

    Declared under //tests/fuzz, not beside the code: nothing depends on tests.

    `bazel test //tests/fuzz:name` runs every file of the corpus once and `runs` changed copies of
    them, under any configuration.
    To fuzz (needs clang-14), with a folder of one's own for what is found:
    bazel run --config=fuzz //tests/fuzz:name_fuzzer -- -max_total_time=60 /abs/found /abs/corpus

    Args:
      name: the test; name + "_fuzzer" is the libFuzzer program.
      srcs: sources.
      corpus: labels of the corpus's files.
      deps: libraries.
      size: of the test.
      tags: of the test.
      runs: how many changed inputs the test tries.
    """
    cc_library(
        name = name + "_lib",
        testonly = True,
        srcs = srcs,
        alwayslink = True,
        deps = deps,
    )
    cc_test(
        name = name,
        size = size,
        args = ["--runs=%d" % runs] + ["$(locations %s)" % c for c in corpus],
        data = corpus,
        tags = tags + ["fuzz"],
        deps = [
            ":" + name + "_lib",
            "//tests/fuzz:replay_main",
        ],
    )
    cc_binary(
        name = name + "_fuzzer",
        testonly = True,
        linkopts = ["-fsanitize=fuzzer"],
        target_compatible_with = select({
            "//tests/fuzz:fuzzing": [],
            "//conditions:default": ["//tests/fuzz:unavailable"],
        }),
        deps = [":" + name + "_lib"],
    )
