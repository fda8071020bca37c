"""JSON for Modern C++ 3.11.2. Headers only."""

load("@bazel_tools//tools/build_defs/repo:utils.bzl", "maybe")
load("//third_party:system_or_http.bzl", "system_or_http")

def nlohmann_json_repository():
    maybe(
        system_or_http,
        name = "nlohmann_json",
        aliases = {"": ["json"]},
        debian_package = "nlohmann-json3-dev",
        http_build_file = Label("//third_party/nlohmann_json:nlohmann_json.BUILD"),
        include_dirs = ["nlohmann"],
        probe = "nlohmann/json.hpp",
        sha256 = "d69f9deb6a75e2580465c6c4c5111b89c4dc2fa94e3a85fcd2ffcd9a143d9273",
        strip_prefix = "json-3.11.2",
        urls = ["https://github.com/nlohmann/json/archive/refs/tags/v3.11.2.tar.gz"],
    )
