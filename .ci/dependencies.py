"""Reads `cargo metadata` and refuses a dependency under a licence that is not on the list, and two
versions of one crate that nobody said why."""

import json
import sys

# What may be linked into an Apache-2.0 program without a further obligation than naming it.
LICENCES = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause",
    "BSL-1.0", "CC0-1.0", "ISC", "MIT", "MIT-0", "Unicode-3.0", "Unlicense", "Zlib",
}

# Two versions of a crate, and who wants the older.
DUPLICATES = {
    "base64": "0.22 by hdrhistogram, 0.23 by pem (under rcgen, in tests)",
    "getrandom": "0.2 by ring, 0.4 by rand",
    "hashbrown": "0.15 by petgraph 0.8, 0.17 by indexmap",
    "nom": "7 by x509-parser, which rcgen names and does not build, 8 by hdrhistogram",
    "syn": "2 by zerocopy's derive (under rand_chacha), 3 by the other derives",
}


def is_allowed(expression):
    """Whether an SPDX expression can be met: one side of OR, every side of AND."""
    expression = expression.replace("/", " OR ").strip()
    while expression.startswith("(") and closes_at_end(expression):
        expression = expression[1:-1].strip()
    for word, every in ((" OR ", any), (" AND ", all)):
        sides = split_outside(expression, word)
        if len(sides) > 1:
            return every(is_allowed(side) for side in sides)
    return expression in LICENCES


def split_outside(expression, word):
    """The parts between a word, outside of parentheses."""
    parts, depth, start = [], 0, 0
    for at, character in enumerate(expression):
        depth += (character == "(") - (character == ")")
        if depth == 0 and expression.startswith(word, at):
            parts.append(expression[start:at].strip())
            start = at + len(word)
    return parts + [expression[start:].strip()]


def closes_at_end(expression):
    """Whether the first parenthesis is closed by the last character."""
    depth = 0
    for at, character in enumerate(expression):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return at == len(expression) - 1
    return False


def reachable(metadata):
    """The packages that the workspace builds, also for its tests, on this kind of system."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    todo, seen = list(metadata["workspace_members"]), set()
    while todo:
        package = todo.pop()
        if package not in seen:
            seen.add(package)
            for dependency in nodes[package]["deps"]:
                targets = [kind["target"] or "" for kind in dependency["dep_kinds"]]
                if not all("windows" in t or "wasm" in t or "wasi" in t for t in targets):
                    todo.append(dependency["pkg"])
    return seen


def main():
    metadata = json.load(sys.stdin)
    wanted = reachable(metadata)
    packages = [p for p in metadata["packages"] if p["id"] in wanted]
    complaints, versions = [], {}
    for package in packages:
        name = f'{package["name"]} {package["version"]}'
        licence = package["license"]
        if package["source"] is not None and not (licence and is_allowed(licence)):
            complaints.append(f"{name}: licence {licence!r} is not on the list")
        versions.setdefault(package["name"], set()).add(package["version"])
    for name, found in sorted(versions.items()):
        if len(found) > 1 and name not in DUPLICATES:
            complaints.append(f"{name}: two versions, {' and '.join(sorted(found))}")
    for name in sorted(set(DUPLICATES) - {n for n, found in versions.items() if len(found) > 1}):
        complaints.append(f"{name}: is no duplicate any more, take it off the list")
    print(f"{len(packages)} packages, {len(complaints)} complaints")
    for complaint in complaints:
        print(" ", complaint)
    sys.exit(1 if complaints else 0)


main()
