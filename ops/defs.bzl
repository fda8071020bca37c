"""residual_op: the targets of one op's folder, from the files that are there."""

load("@local_config_cuda//:config.bzl", "NEEDS_CUDA", "if_cuda")
load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_library", "cc_test")
load("//tensor/base:highway.bzl", "KERNEL_DEFINES")
load("//tensor/cuda:emulation.bzl", "emulated_cuda_library")
load("//third_party/cuda:cuda.bzl", "cuda_library")

def residual_op(name, deps = [], cuda_deps = [], test_deps = [], test_size = "small", visibility = None):
    """Declares //ops/NAME:NAME, its tests and its benchmark.

    Files of the folder, all but the first optional:
      *.h, *.cc         the op: NAME.h is its contract, *_cpu.cc its Highway kernels
      *-inl.h           code included once per Highway target
      *.cu              CUDA kernels; skipped without a toolkit
      *_cuda_test.cc    tests of these: on a GPU (tag gpu; they skip without one), and once more as
                        *_cuda_emulated_test (tag cuda_emulated), on a host that stands in for it
      *_test.cc         one test each
      *_benchmark.cc    one benchmark each, run once as a test so that it cannot rot

    Args:
      name: the folder's name.
      deps: what the op needs beyond tensors, the tape and Highway.
      cuda_deps: what its .cu files need besides tensor/cuda.
      test_deps: what its tests need besides the op and the test harness.
      test_size: size of the tests.
      visibility: of the op; public unless given.
    """
    cuda_tests = native.glob(["*_cuda_test.cc"], allow_empty = True)
    tests = native.glob(["*_test.cc"], exclude = cuda_tests, allow_empty = True)
    benchmarks = native.glob(["*_benchmark.cc"], allow_empty = True)
    kernels = native.glob(["*_cpu.cc"], allow_empty = True)
    sources = native.glob(
        ["*.cc"],
        exclude = tests + cuda_tests + benchmarks + kernels,
        allow_empty = True,
    )
    cuda_sources = native.glob(["*.cu"], allow_empty = True)
    headers = native.glob(["*.h"], exclude = ["*-inl.h"], allow_empty = True)
    common = [
        "//tensor/autograd:tape",
        "//tensor/base:check",
        "//tensor/base:parallel",
        "//tensor/core:tensor",
        "@com_google_highway//:hwy",
    ]
    public = visibility or ["//visibility:public"]

    inline = native.glob(["*-inl.h"], allow_empty = True)
    own = []
    if cuda_sources:
        # Apart from what dispatches to them: of that there are two libraries, of these one.
        own = [":%s_cpu" % name]
        cc_library(
            name = name + "_cpu",
            srcs = kernels,
            hdrs = headers,
            local_defines = KERNEL_DEFINES,
            textual_hdrs = inline,
            deps = common + deps,
        )
    else:
        sources += kernels
    cc_library(
        name = name,
        srcs = sources,
        hdrs = headers,
        local_defines = KERNEL_DEFINES,
        textual_hdrs = inline,
        visibility = public,
        deps = common + deps + own + if_cuda([":%s_cuda" % name] if cuda_sources else []),
    )
    if cuda_sources:
        cuda_library(
            name = name + "_cuda",
            srcs = cuda_sources,
            hdrs = headers,
            deps = [
                "//tensor/cuda",
                "//tensor/cuda:kernel",
                "//tensor/core:dtype",
                "//tensor/core:storage",
            ] + cuda_deps,
        )
        emulated_cuda_library(
            name = name + "_cuda_emulated",
            srcs = cuda_sources,
            hdrs = headers,
            deps = [
                "//tensor/core:dtype",
                "//tensor/core:storage",
            ] + cuda_deps,
        )
        cc_library(
            name = name + "_emulated",
            testonly = True,
            srcs = sources,
            hdrs = headers,
            local_defines = KERNEL_DEFINES + ["RESIDUAL_WITH_CUDA=1"],
            deps = common + deps + own + [":%s_cuda_emulated" % name],
        )
    for source in cuda_tests:
        cc_test(
            name = source[:-len(".cc")],
            size = test_size,
            srcs = [source],
            # A GPU is nothing that Bazel knows of: what was skipped without one must run with one.
            tags = [
                "external",
                "gpu",
            ],
            target_compatible_with = NEEDS_CUDA,
            deps = [":" + name] + common + test_deps + [
                "//tensor/cuda:start_in_tests",
                "//tensor/testing:op_case",
                "@com_google_googletest//:gtest_main",
            ],
        )
        cc_test(
            name = source[:-len("_test.cc")] + "_emulated_test",
            size = test_size,
            srcs = [source],
            tags = ["cuda_emulated"],
            deps = [":%s_emulated" % name] + common + test_deps + [
                "//tensor/cuda:emulation",
                "//tensor/testing:op_case",
                "@com_google_googletest//:gtest_main",
            ],
        )
    for source in tests:
        cc_test(
            name = source[:-len(".cc")],
            size = test_size,
            srcs = [source],
            local_defines = KERNEL_DEFINES,
            deps = [":" + name] + common + test_deps + [
                "//tensor/testing:op_case",
                "@com_google_googletest//:gtest_main",
            ],
        )
    for source in benchmarks:
        benchmark = source[:-len(".cc")]

        # Also for //tests/bench, which gathers them.
        cc_library(
            name = benchmark + "_cases",
            testonly = True,
            srcs = [source],
            tags = ["benchmark"],
            visibility = ["//tests/bench:__pkg__"],
            deps = [":" + name] + common + [
                "//tensor/testing:bytes_moved",
                "//tensor/testing:limits",
                "@com_google_benchmark//:benchmark",
            ],
            alwayslink = True,
        )
        cc_binary(
            name = benchmark,
            testonly = True,
            tags = ["benchmark"],
            visibility = ["//visibility:public"],
            deps = [":%s_cases" % benchmark, "@com_google_benchmark//:benchmark_main"],
        )
        native.sh_test(
            name = benchmark + "_runs",
            size = "small",
            srcs = ["//ops:run_once.sh"],
            args = ["$(location :%s)" % benchmark],
            data = [":" + benchmark],
            tags = ["benchmark"],
        )
