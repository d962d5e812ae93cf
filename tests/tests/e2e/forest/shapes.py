# Fills $out with names of all shapes. $names is a file with lines "NAME SHAPE". See shapes.rs for the shapes.
import os

out, own, other, common = (os.environ[name] for name in ("out", "own", "other", "common"))


def write(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(own)


def fill(path):
    # Directories of all shapes have these files in common, so that any two can be merged.
    write(path + "/x")
    write(path + "/of-" + own)
    write(path + "/below/y")
    write(path + "/below/of-" + own)


def link(target, path):
    os.symlink(target, path)


def relative(store_path):
    # The link is in share/names.
    return "../../../" + os.path.basename(store_path)


def special(path):
    fill(path)
    for name in (".hidden", ".hidden-directory/x", "log", "manifest.json", "manifest.nix", "info/dir", "info/x",
                 "perllocal.pod", "nix-support/x", "propagated-build-inputs", "below/.hidden", "below/log"):
        write(path + "/" + name)


def unusual(path):
    fill(path)
    for name in (b"a space", b"\xff\xfe", b"nfc-\xc3\xa9", b"nfd-e\xcc\x81", b"new\nline", b"-rf", b"README",
                 b"readme", b"...", b"%2f", b"a" * 255):
        os.mkdir(os.fsencode(path) + b"/" + name)
        write(os.fsdecode(os.fsencode(path) + b"/" + name + b"/of-" + own.encode()))


def deep(path):
    fill(path)
    write(path + "/below" + "/d" * 12 + "/of-" + own)


def nested_loop(path):
    fill(path)
    link(".", path + "/self")


inside = out + "/share/inside-" + own
shapes = {
    "directory": fill,
    "deep": deep,
    "empty": os.mkdir,
    "special": special,
    "unusual": unusual,
    "nested-loop": nested_loop,
    "link-inside": lambda path: link("../inside-" + own + "/directory", path),
    "link-other": lambda path: link(other + "/directory", path),
    "link-relative": lambda path: link(relative(other) + "/directory", path),
    "link-chain": lambda path: link(other + "/chain-3", path),
    "link-common": lambda path: link(common + "/directory", path),
    "file": write,
    "link-file": lambda path: link(other + "/file", path),
    "link-common-file": lambda path: link(common + "/file", path),
    "link-out": lambda path: link("/bin/bash", path),
    "dangling": lambda path: link(other + "/missing", path),
    "loop": lambda path: link(os.path.basename(path), path),
}

names = out + "/share/names"
os.makedirs(names)
fill(inside + "/directory")
write(out + "/bin/program-of-" + own)
with open(os.environ["names"]) as lines:
    for line in lines:
        name, shape = line.split()
        shapes[shape](names + "/" + name)
