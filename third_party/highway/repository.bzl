"""Highway 1.0.3: SIMD with dispatch at run time.

The archive is of the same version as Debian's, so that the code builds on both.
"""

load("@bazel_tools//tools/build_defs/repo:utils.bzl", "maybe")
load("//third_party:system_or_http.bzl", "system_or_http")

def highway_repository():
    maybe(
        system_or_http,
        name = "com_google_highway",
        aliases = {"": ["hwy"]},
        debian_package = "libhwy-dev",
        http_build_file = Label("//third_party/highway:highway.BUILD"),
        include_dirs = ["hwy"],
        lib_glob_prefix = "libhwy",
        libs = ["hwy"],
        probe = "hwy/highway.h",
        sha256 = "566fc77315878473d9a6bd815f7de78c73734acdcb745c3dde8579560ac5440e",
        strip_prefix = "highway-1.0.3",
        urls = ["https://github.com/google/highway/archive/refs/tags/1.0.3.tar.gz"],
    )
