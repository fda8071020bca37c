"""zlib 1.2.13: data sets come as .gz files."""

load("@bazel_tools//tools/build_defs/repo:utils.bzl", "maybe")
load("//third_party:system_or_http.bzl", "system_or_http")

def zlib_repository():
    maybe(
        system_or_http,
        name = "zlib",
        aliases = {"": ["zlib"]},
        debian_package = "zlib1g-dev",
        http_build_file = Label("//third_party/zlib:zlib.BUILD"),
        include_dirs = [
            "zconf.h",
            "zlib.h",
        ],
        lib_glob_prefix = "libz",
        libs = ["z"],
        probe = "zlib.h",
        sha256 = "b3a24de97a8fdbc835b9833169501030b8977031bcb54b3b3ac13740f846ab30",
        strip_prefix = "zlib-1.2.13",
        urls = [
            "https://github.com/madler/zlib/releases/download/v1.2.13/zlib-1.2.13.tar.gz",
            "https://zlib.net/fossils/zlib-1.2.13.tar.gz",
        ],
    )
