"""Vega 5.22.1, a grammar of interactive graphics: //:vega.min.js for the HTML reports."""

load("@bazel_tools//tools/build_defs/repo:utils.bzl", "maybe")

_VERSION = "5.22.1"
_URL = "https://registry.npmjs.org/vega/-/vega-%s.tgz" % _VERSION
_SHA256 = "10cd0b0274c29f2cc07d5b1e976854c6136e2e3a73fa4596cc89a013661b732c"
_SYSTEM = "/usr/share/javascript"

# Of Debian's libjs-vega, what the reports can use: all but maps and Voronoi diagrams, whose
# libraries (d3-geo-projection, d3-delaunay) the package does not have.
_PARTS = [
    "topojson-client/topojson-client",
    "vega/vega-canvas",
    "vega/vega-crossfilter",
    "vega/vega-dataflow",
    "vega/vega-encode",
    "vega/vega-event-selector",
    "vega/vega-expression",
    "vega/vega-force",
    "vega/vega-format",
    "vega/vega-functions",
    "vega/vega-hierarchy",
    "vega/vega-label",
    "vega/vega-loader",
    "vega/vega-parser",
    "vega/vega-regression",
    "vega/vega-runtime",
    "vega/vega-scale",
    "vega/vega-scenegraph",
    "vega/vega-selection",
    "vega/vega-statistics",
    "vega/vega-time",
    "vega/vega-transforms",
    "vega/vega-util",
    "vega/vega-view",
    "vega/vega-view-transforms",
    "vega/vega-wordcloud",
]

_BUILD = """
genrule(
    name = "bundle",
    srcs = ["LICENSE"] + {scripts},
    outs = ["vega.min.js"],
    cmd = "$(location bundle.sh) $(location LICENSE) {scripts_flag} > $@",
    tools = ["bundle.sh"],
    visibility = ["//visibility:public"],
)
"""

def _impl(ctx):
    mode = ctx.os.environ.get("RESIDUAL_DEPS", "auto")
    if mode not in ["auto", "system", "http"]:
        fail("RESIDUAL_DEPS must be auto, system or http, not " + mode)
    ctx.file("WORKSPACE", 'workspace(name = "%s")\n' % ctx.name)
    ctx.symlink(Label("//third_party/vega:bundle.sh"), "bundle.sh")
    ctx.symlink(Label("//third_party/vega:LICENSE"), "LICENSE")
    parts = [_SYSTEM + "/" + part + ".min.js" for part in _PARTS]
    missing = [part for part in parts if not ctx.path(part).exists]
    if mode != "http" and not missing:
        ctx.symlink(Label("//third_party/vega:entry.js"), "entry.js")
        for part in parts:
            ctx.symlink(part, "parts/" + part.split("/")[-1])
        scripts = ["parts/" + part.split("/")[-1] for part in parts] + ["entry.js"]
    elif mode == "system":
        fail("no %s; install the Debian package libjs-vega" % missing[0])
    else:
        got = ctx.download(_URL, "vega.tgz", _SHA256, allow_fail = True)
        if not got.success:
            fail("no %s, and no archive from %s: install the Debian package libjs-vega" % (_SYSTEM + "/vega", _URL))
        ctx.extract("vega.tgz", "npm", stripPrefix = "package")
        ctx.delete("vega.tgz")
        scripts = ["npm/build/vega.min.js"]
    ctx.file("BUILD.bazel", _BUILD.format(
        scripts = repr(scripts),
        scripts_flag = " ".join(["$(location %s)" % s for s in scripts]),
    ))

_vega = repository_rule(
    implementation = _impl,
    local = True,  # looked at again on every server start, so installing the package is seen
    environ = ["RESIDUAL_DEPS"],
)

def vega_repository():
    maybe(
        _vega,
        name = "vega",
    )
