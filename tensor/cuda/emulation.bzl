"""emulated_cuda_library: .cu files compiled by the host's compiler, for tests without a GPU."""

load("@rules_cc//cc:defs.bzl", "cc_library")

def emulated_cuda_library(name, srcs, hdrs = [], deps = [], **kwargs):
    """The twin of a cuda_library, with the same symbols; see emulation.h. Link one of the two.

    Args:
      name: the target.
      srcs: .cu files.
      hdrs: headers that host code includes.
      deps: libraries whose headers the sources include.
      **kwargs: passed to cc_library.
    """
    stubs = []
    for src in srcs:
        # cc_library takes no .cu file.
        stub = "_%s/%s.cc" % (name, src)
        native.genrule(
            name = "%s_%s_stub" % (name, src.replace(".", "_")),
            testonly = True,
            outs = [stub],
            cmd = "echo '#include \"%s/%s\"' >$@" % (native.package_name(), src),
        )
        stubs.append(stub)
    cc_library(
        name = name,
        testonly = True,
        srcs = stubs,
        hdrs = hdrs,
        # Kernels load several elements as one; #pragma unroll is nvcc's.
        copts = [
            "-fno-strict-aliasing",
            "-Wno-unknown-pragmas",
        ],
        linkstatic = True,
        local_defines = ["RESIDUAL_CUDA_EMULATED"],
        textual_hdrs = srcs,
        deps = deps + ["//tensor/cuda:kernel"],
        **kwargs
    )
