"""The text of a program's own sources, as one file."""

_SourcesInfo = provider(
    doc = "The sources of a target and of all it depends on.",
    fields = {"files": "depset of File"},
)

def _sources_aspect_impl(_target, ctx):
    direct = []
    for attr in ["srcs", "hdrs", "textual_hdrs"]:
        direct += getattr(ctx.rule.files, attr, [])
    deps = getattr(ctx.rule.attr, "deps", [])
    return [_SourcesInfo(files = depset(
        direct,
        transitive = [dep[_SourcesInfo].files for dep in deps if _SourcesInfo in dep],
    ))]

_sources_aspect = aspect(
    implementation = _sources_aspect_impl,
    attr_aspects = ["deps"],
)

def _path(file):
    return file.short_path

def _source_text_impl(ctx):
    sources = depset(ctx.files.srcs, transitive = [dep[_SourcesInfo].files for dep in ctx.attr.deps])
    repository = ctx.label.workspace_name
    files = [
        file
        for file in sources.to_list()
        if file.is_source and file.owner.workspace_name == repository and
           file.extension in ["cc", "h", "md"]
    ]

    # In order of path, whatever the graph looks like.
    files = sorted(files, key = _path)
    out = ctx.actions.declare_file(ctx.label.name + ".txt")
    paths = ctx.actions.args()
    paths.add(out)
    paths.add_all(files)
    ctx.actions.run_shell(
        command = 'out=$1; shift; cat "$@" > "$out"',
        arguments = [paths],
        inputs = files,
        outputs = [out],
        mnemonic = "SourceText",
        progress_message = "Joining %d source files" % len(files),
    )
    return [DefaultInfo(files = depset([out]), runfiles = ctx.runfiles([out]))]

source_text = rule(
    doc = "Joins the files of `srcs` and the C++ sources and headers of `deps` and all they depend " +
          "on in this repository into NAME.txt, in order of path.",
    implementation = _source_text_impl,
    attrs = {
        "srcs": attr.label_list(allow_files = [".md"]),
        "deps": attr.label_list(aspects = [_sources_aspect]),
    },
)
