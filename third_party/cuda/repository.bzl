"""The CUDA toolkit, where there is one: @local_config_cuda."""

load("@bazel_tools//tools/build_defs/repo:utils.bzl", "maybe")
load("//third_party/cuda:cuda_configure.bzl", "cuda_configure")

def cuda_repository():
    maybe(
        cuda_configure,
        name = "local_config_cuda",
    )
