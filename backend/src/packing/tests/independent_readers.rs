//! Reads a layer with GNU tar, bsdtar, GNU gzip and Python, and the files with Nix.

use super::*;
use firn_shared::archive::{END, Kind, encode_header};
use std::ffi::OsStr;
use std::os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _};
use std::process::Command;

/// Prints what Python's gzip and tarfile see: type, mode, owner, time, name, link, sha256.
const PYTHON: &str = r#"
import hashlib, sys, tarfile
with tarfile.open(sys.argv[1], "r:gz", errorlevel=2) as archive:
    for entry in archive:
        kind = {tarfile.DIRTYPE: "d", tarfile.REGTYPE: "f", tarfile.SYMTYPE: "l", tarfile.LNKTYPE: "h"}[entry.type]
        digest = hashlib.sha256(archive.extractfile(entry).read()).hexdigest() if kind == "f" else "-"
        print(kind, oct(entry.mode), entry.uid, entry.gid, entry.mtime, repr(entry.name), repr(entry.linkname), digest)
"#;

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; install it"));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stderr.is_empty(), "{command:?}: {stderr}");
    stdout.into_owned()
}

fn layer_file() -> (tempfile::TempDir, PathBuf) {
    let directory = specimen();
    let (_, bytes) = pack(&packer("gzip", 2), as_store_path(directory.path())).expect("packs");
    let layers = tempfile::tempdir().expect("a temporary directory");
    let path = layers.path().join("layer.tar.gz");
    fs::write(&path, bytes).expect("write");
    (layers, path)
}

#[test]
fn python_sees_the_same_files() {
    let (_layers, path) = layer_file();
    let seen = run(Command::new("python3").args(["-c", PYTHON]).arg(&path));
    let long = "long-name-".repeat(20);
    let root = &STORE_PATH[1..];
    let hash = |bytes: &[u8]| Digest::of(bytes).hex();
    let directory = |mode, name: &str| format!("d 0o{mode} 0 0 1 '{name}' '' -");
    let file =
        |mode, name: &str, bytes: &[u8]| format!("f 0o{mode} 0 0 1 '{root}/{name}' '' {}", hash(bytes));
    let link = |name, target: &str| format!("l 0o777 0 0 1 '{root}/{name}' '{target}' -");
    let expect = [
        directory("755", "nix"),
        directory("755", "nix/store"),
        directory("555", root),
        link("absolute", &format!("{STORE_PATH}/bin/tool")),
        directory("555", &format!("{root}/bin")),
        file("555", "bin/tool", &text(3_000_000, 1)),
        file("444", "bin.txt", &text(1000, 2)),
        file("444", "block", &text(512, 4)),
        link("dangling", &format!("{long}/../nowhere")),
        directory("555", &format!("{root}/empty")),
        directory("555", &format!("{root}/empty/inner")),
        directory("555", &format!("{root}/{long}")),
        directory("555", &format!("{root}/{long}/{long}")),
        file("444", &format!("{long}/{long}/deep"), &text(513, 5)),
        file("444", "noise", &noise(2_500_000, 3)),
        file("444", r#"sp ace\n"quote\\"#, b"odd name"),
        format!("h 0o555 0 0 1 '{root}/twin' '{root}/bin/tool' -"),
        file("444", "zero", b""),
    ];
    assert_eq!(seen.lines().collect::<Vec<_>>(), expect);
}

#[test]
fn gnu_tar_and_gzip_read_it_without_a_word() {
    let (layers, path) = layer_file();
    run(Command::new("gzip").arg("--test").arg(&path));
    let out = layers.path().join("out");
    fs::create_dir(&out).expect("mkdir");
    run(Command::new("tar").arg("-xzf").arg(&path).arg("-C").arg(&out));
    let unpacked = out.join(&STORE_PATH[1..]);
    let original = specimen();
    run(Command::new("diff").args(["--recursive", "--no-dereference"]).arg(original.path()).arg(&unpacked));
    assert!(unpacked.join("empty/inner").is_dir(), "empty directories are kept");
    let inode = |name| fs::metadata(unpacked.join(name)).expect("unpacked").ino();
    assert_eq!(inode("bin/tool"), inode("twin"), "equal files are unpacked once");
    // Packing the unpacked files makes the same layer: nothing was lost.
    let (again, _) = pack(&packer("gzip", 2), as_store_path(&unpacked)).expect("packs");
    assert_eq!(again.digest, Digest::of(&fs::read(&path).expect("read")));
    // Directories have mode 0555. Without this, a user other than root could not remove them.
    run(Command::new("chmod").args(["-R", "u+w"]).arg(&out));
}

/// Linux allows all but two bytes in a name.
#[test]
fn names_of_any_bytes_survive() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let long = [b"\xfe".as_slice(); 150].concat();
    let name = |bytes: &[u8]| directory.path().join(OsStr::from_bytes(bytes));
    for odd in
        [b"\xff\xfe".as_slice(), b"new\nline", b"\x01\x7f", b" ", b"-rf", b"\\n", b"caf\xc3\xa9", &long]
    {
        fs::write(name(odd), odd).expect("write");
        fs::create_dir(name(&[odd, b".d"].concat())).expect("mkdir");
        symlink(OsStr::from_bytes(odd), name(&[odd, b".l"].concat())).expect("symlink");
    }
    let (layer, bytes) = pack(&packer("gzip", 2), as_store_path(directory.path())).expect("packs");
    let layers = tempfile::tempdir().expect("a temporary directory");
    let path = layers.path().join("layer.tar.gz");
    fs::write(&path, bytes).expect("write");
    for reader in ["tar", "bsdtar"] {
        let out = layers.path().join(reader);
        fs::create_dir(&out).expect("mkdir");
        run(Command::new(reader).env("LC_ALL", "C.UTF-8").arg("-xf").arg(&path).arg("-C").arg(&out));
        let (again, _) = pack(&packer("gzip", 1), as_store_path(&out.join(&STORE_PATH[1..]))).expect("packs");
        assert_eq!(again.digest, layer.digest, "{reader}");
        run(Command::new("chmod").args(["-R", "u+w"]).arg(&out));
    }
}

/// The file has 9 GiB. The readers skip everything except the headers.
#[test]
fn files_of_more_than_8_gib_are_as_large_for_others() {
    const SIZE: u64 = 9 << 30;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("large.tar");
    let mut header = Vec::new();
    let at = |name| ImagePath::parse(format!("/{name}")).expect("absolute");
    encode_header(&at("large"), Permissions::STORE_FILE, Kind::File { size: SIZE }, &mut header);
    let mut after = Vec::new();
    encode_header(&at("after"), Permissions::STORE_FILE, Kind::File { size: 0 }, &mut after);
    after.extend(END);
    fs::write(&path, &header).expect("write");
    let archive = fs::File::options().write(true).open(&path).expect("open");
    let end = header.len() as u64 + SIZE;
    std::os::unix::fs::FileExt::write_all_at(&archive, &after, end).expect("write");

    let python = "import sys, tarfile\nfor entry in tarfile.open(sys.argv[1]): print(entry.size, entry.name)";
    let seen = run(Command::new("python3").args(["-c", python]).arg(&path));
    assert_eq!(seen, format!("{SIZE} large\n0 after\n"));
    for reader in ["tar", "bsdtar"] {
        let seen = run(Command::new(reader).arg("-tvf").arg(&path));
        let lines: Vec<_> = seen.lines().collect();
        assert!(lines.len() == 2 && lines[0].contains(&format!(" {SIZE} ")), "{reader}: {seen}");
    }
}

#[test]
fn nix_comes_to_the_same_size() {
    let directory = specimen();
    for tree in
        [directory.path().to_owned(), directory.path().join("zero"), directory.path().join("dangling")]
    {
        let nar = Command::new("nix-store").arg("--dump").arg(&tree).output().expect("Nix is installed");
        assert!(nar.status.success(), "{}", String::from_utf8_lossy(&nar.stderr));
        let (layer, _) = pack(&packer("gzip", 2), as_store_path(&tree)).expect("packs");
        assert_eq!(layer.nar_size, nar.stdout.len() as u64, "{}", tree.display());
    }
}
