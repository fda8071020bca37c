"""MPI, where mpicxx is on the PATH: @local_config_mpi."""

load("@bazel_tools//tools/build_defs/repo:utils.bzl", "maybe")
load("//third_party/mpi:mpi_configure.bzl", "mpi_configure")

def mpi_repository():
    maybe(
        mpi_configure,
        name = "local_config_mpi",
    )
