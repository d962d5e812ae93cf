"""Turns Debian packages into one Nix store path (or several outputs of it).

Run by the builder of every derivation in debian.nix with the recipe in $recipe (JSON). It unpacks the
.debs, merges /usr into the prefix, points the interpreter and RUNPATH of ELF files, the `#!` of scripts
and symbolic links at the store, and then applies the recipe's links, files, joins and wrappers.
Maintainer scripts are not run. What cannot be found in the dependencies fails the build.
"""

import fnmatch
import json
import os
import posixpath
import re
import shutil
import stat
import struct
import subprocess
import sys
import tarfile

recipe = json.loads(os.environ["recipe"])
outputs = {name: os.environ[name] for name in recipe["outputs"]}
home = outputs.get("out", outputs[recipe["outputs"][0]])
triplet = recipe["triplet"]
# Name -> the outputs of that dependency, the one with its libraries first.
deps = recipe["deps"]
use = recipe["use"]
search = [path for paths in {**deps, **use}.values() for path in paths]

# For Debian's own machinery.
DROPPED = (
    "share/lintian", "share/bug", "share/doc-base", "share/initramfs-tools", "share/python3/runtime.d",
    "etc/init.d", "etc/logrotate.d", "etc/default", "etc/ufw", "lib/systemd/",
)
LICENSE = "/copyright"
# What a container has outside the store: links there are meant to leave it.
OUTSIDE = ("etc/", "var/", "run/", "dev/", "proc/", "tmp/")


def log(message):
    print(message, file=sys.stderr)


def relocate(path):
    """Where a path of a Debian system lies in the prefix: /usr/sbin/x -> bin/x."""
    path = path.strip("/")
    path = "" if path == "usr" else path.removeprefix("usr/")
    for directory in ("sbin", "games"):
        if path == directory or path.startswith(directory + "/"):
            path = "bin" + path[len(directory):]
    return path


def output_of(path):
    """The output that a path of the prefix belongs to, by nixpkgs' habits."""
    suffixes = (".a", ".la")
    if "dev" in outputs and (
        path.startswith("include/") or "/pkgconfig/" in path or path.endswith(suffixes)
    ):
        return outputs["dev"]
    for name, prefix in (("man", "share/man/"), ("doc", "share/doc/"), ("info", "share/info/"), ("bin", "bin/")):
        if name in outputs and path.startswith(prefix):
            return outputs[name]
    return home


def place(path):
    target = posixpath.join(output_of(path), path)
    os.makedirs(posixpath.dirname(target), exist_ok=True)
    return target


def expand(text):
    text = text.replace("@out@", home).replace("@triplet@", triplet)
    for name, paths in {**deps, **use}.items():
        text = text.replace(f"@{name}@", paths[0])
    if unknown := re.search("@[A-Za-z0-9.+-]+@", text):
        raise SystemExit(f"the recipe names {unknown[0]}, which is no dependency")
    return text


def unpack(deb, links):
    """Unpacks one .deb; symbolic links are collected in `links`, to be placed when all files are.
    Returns the bytes that went to each output."""
    written = dict.fromkeys(outputs.values(), 0)
    reader = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
    with tarfile.open(fileobj=reader.stdout, mode="r|", errors="surrogateescape") as tar:
        for member in tar:
            path = relocate(posixpath.normpath(member.name.removeprefix(".")))
            if path in ("", ".") or path.startswith(DROPPED):
                continue
            # Of the documentation only the licence, unless it has an output to itself.
            if path.startswith("share/doc/") and "doc" not in outputs and not path.endswith(LICENSE):
                continue
            if member.isdir():
                os.makedirs(posixpath.join(output_of(path + "/"), path), exist_ok=True)
            elif member.issym():
                at = posixpath.normpath("/" + member.name.removeprefix("."))
                links[path] = posixpath.normpath(posixpath.join(posixpath.dirname(at), member.linkname))
                links[path] = "/" + links[path].lstrip("/")
            elif member.islnk():
                os.link(place(relocate(posixpath.normpath(member.linkname.removeprefix(".")))), place(path))
            elif member.isreg():
                with open(place(path), "wb") as file:
                    shutil.copyfileobj(tar.extractfile(member), file, 1 << 20)
                # Without setuid and setgid, which the store does not have.
                os.chmod(file.name, 0o755 if member.mode & 0o111 else 0o644)
                written[output_of(path)] += member.size
            else:
                raise SystemExit(f"{deb}: {member.name} is neither file, directory nor link")
    if reader.wait() != 0:
        raise SystemExit(f"{deb}: dpkg-deb failed")
    return written


def exists(path, links):
    return path in links or os.path.lexists(posixpath.join(output_of(path), path)) or os.path.isdir(
        posixpath.join(home, path))


def place_links(links):
    for path, target in sorted(links.items()):
        wanted = relocate(target)
        if exists(wanted, links):
            where = output_of(wanted)
            if where == output_of(path):
                wanted = posixpath.relpath(wanted, posixpath.dirname(path))
            else:
                wanted = posixpath.join(where, wanted)
        else:
            found = [d for d in search if os.path.lexists(posixpath.join(d, wanted))]
            if found:
                wanted = posixpath.join(found[0], wanted)
            elif target.strip("/").startswith(OUTSIDE) and not target.startswith("/etc/alternatives/"):
                wanted = target
            else:
                log(f"dropped link {path} -> {target}")
                continue
        os.symlink(wanted, place(path))


class Elf:
    """The dynamic section of a 64-bit little-endian ELF file (the ELF specification, "Dynamic Linking").
    Read here because patchelf, which could tell too, is one process for each question about each file."""

    def __init__(self, data):
        self.interpreter, self.needed, self.soname = None, [], None
        offset, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
        loads, dynamic = [], None
        for i in range(count):
            kind, _, at, address, _, length = struct.unpack_from("<IIQQQQ", data, offset + i * size)
            if kind == 1:
                loads.append((address, at, length))
            elif kind == 2:
                dynamic = (at, length)
            elif kind == 3:
                self.interpreter = data[at:at + length].rstrip(b"\0")
        if dynamic is None:
            return
        entries = list(struct.iter_unpack("<QQ", data[dynamic[0]:dynamic[0] + dynamic[1] // 16 * 16]))
        table = next((value for tag, value in entries if tag == 5), None)
        strings = next((at + table - address for address, at, length in loads
                        if address <= table < address + length), None) if table is not None else None
        if strings is None:
            return

        def string(value):
            return data[strings + value:data.index(b"\0", strings + value)].decode()

        for tag, value in entries:
            if tag == 0:
                break
            if tag == 1:
                self.needed.append(string(value))
            elif tag == 14:
                self.soname = string(value)


def files():
    """Every regular file of every output, one name for each file."""
    seen = set()
    for root in outputs.values():
        for directory, _, names in sorted(os.walk(root)):
            for name in sorted(names):
                path = posixpath.join(directory, name)
                status = os.lstat(path)
                if stat.S_ISREG(status.st_mode) and status.st_ino not in seen:
                    seen.add(status.st_ino)
                    yield path


def fix_elf(path, elf, own):
    directories = []
    for soname in elf.needed:
        if soname in own:
            found = own[soname]
        else:
            places = (posixpath.join(d, lib) for d in search for lib in (f"lib/{triplet}", "lib", "lib64"))
            found = next((p for p in places if os.path.exists(posixpath.join(p, soname))), None)
        if found is None:
            raise SystemExit(f"{path}: {soname} is in none of the dependencies")
        if found not in directories:
            directories.append(found)
    arguments = []
    if directories:
        arguments += ["--set-rpath", ":".join(directories)]
    if elf.interpreter:
        loader = posixpath.basename(elf.interpreter.decode())
        places = (posixpath.join(d, lib, loader) for d in [*search, home] for lib in (f"lib/{triplet}", "lib64", "lib"))
        found = next((p for p in places if os.path.exists(p)), None)
        if found is None:
            raise SystemExit(f"{path}: {loader} is in none of the dependencies")
        arguments += ["--set-interpreter", found]
    if arguments:
        subprocess.run(["patchelf", *arguments, path], check=True)


def fix_script(path, data):
    line, _, rest = data.partition(b"\n")
    words = line[2:].split()
    if not words:
        return
    command, arguments = posixpath.basename(words[0]), words[1:]
    if command == b"env" and arguments and not arguments[0].startswith(b"-"):
        command, arguments = posixpath.basename(arguments[0]), arguments[1:]
    candidates = [posixpath.join(d, "bin", os.fsdecode(command)) for d in [*outputs.values(), *search]]
    found = next((c for c in candidates if os.path.lexists(c)), None)
    if found is None:
        log(f"left #! of {path}: {os.fsdecode(words[0])}")
        return
    with open(path, "wb") as file:
        file.write(b"#!" + b" ".join([os.fsencode(found), *arguments]) + b"\n" + rest)


def fix_programs():
    own = {}
    elves = {}
    scripts = []
    for path in files():
        with open(path, "rb") as file:
            magic = file.read(5)
            if magic == b"\x7fELF\x02":
                elves[path] = Elf(magic + file.read())
                if elves[path].soname:
                    own.setdefault(elves[path].soname, posixpath.dirname(path))
            elif magic.startswith(b"#!"):
                scripts.append((path, magic + file.read()))
    for path, elf in elves.items():
        # The C library's own files find each other, and its loader must not be touched.
        if not (recipe["libc"] and (elf.soname or not elf.interpreter)):
            fix_elf(path, elf, own)
    for path, data in scripts:
        fix_script(path, data)


def wrap(path, how):
    program = expand(how["target"]) if "target" in how else None
    link = place(path)
    if program is None:
        program = posixpath.join(posixpath.dirname(link), f".{posixpath.basename(link)}-wrapped")
        os.rename(link, program)
    shell = next(posixpath.join(d, "bin/bash") for d in use["bash"])
    lines = [f"#!{shell}"]
    for name, value in how.get("env", {}).items():
        lines.append(f"export {name}=${{{name}-{expand(value)}}}")
    for name, value in how.get("prefix", {}).items():
        lines.append(f"export {name}={expand(value)}${{{name}:+:${name}}}")
    for name, value in how.get("suffix", {}).items():
        lines.append(f"export {name}=${{{name}:+${name}:}}{expand(value)}")
    arguments = "".join(f" '{expand(argument)}'" for argument in how.get("args", []))
    lines.append(f'exec -a "$0" {program}{arguments} "$@"')
    with open(link, "w") as file:
        file.write("\n".join(lines) + "\n")
    os.chmod(link, 0o755)


def keep_only(kept):
    for path in list(files()):
        inside = posixpath.relpath(path, next(o for o in outputs.values() if path.startswith(o)))
        if not any(inside.startswith(k.rstrip("/") + "/") for k in kept):
            os.remove(path)
    for root in outputs.values():
        for directory, _, _ in sorted(os.walk(root), reverse=True):
            if not os.listdir(directory):
                os.rmdir(directory)


def main():
    os.umask(0o022)
    for root in outputs.values():
        os.makedirs(root)
    links, written = {}, {}
    for name, deb in recipe["debs"].items():
        written[name] = unpack(deb, links)
    place_links(links)
    for path, pattern in recipe["join"].items():
        parts = sorted(p for p in files() if fnmatch.fnmatch(posixpath.relpath(p, home), pattern))
        if not parts:
            raise SystemExit(f"nothing matches {pattern}")
        with open(place(path), "wb") as file:
            for part in parts:
                with open(part, "rb") as source:
                    file.write(source.read())
    if recipe["keep"]:
        keep_only(recipe["keep"])
    for path, content in recipe["files"].items():
        with open(place(path), "w") as file:
            file.write(expand(content))
    for path, target in recipe["links"].items():
        os.symlink(expand(target), place(path))
    fix_programs()
    for path, how in recipe["wrap"].items():
        wrap(path, how)
    # Data and what is loaded by name leave no trace in a program: Debian's word keeps it in the closure.
    for deb, depends in recipe["depends"].items():
        paths = [deps[name][0] for name in depends if deps[name][0] not in outputs.values()]
        if paths:
            root = max(written[deb], key=lambda output: written[deb][output])
            os.makedirs(f"{root}/share/firn", exist_ok=True)
            with open(f"{root}/share/firn/{deb}.depends", "w") as file:
                file.write("".join(path + "\n" for path in paths))
    # Nix wants each output to exist; an empty one says so.
    for root in outputs.values():
        if not os.path.exists(root):
            os.makedirs(root)


main()
