//! Writes NARs.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub(super) fn string(nar: &mut Vec<u8>, text: &[u8]) {
    nar.extend_from_slice(&(text.len() as u64).to_le_bytes());
    nar.extend_from_slice(text);
    nar.resize(nar.len().next_multiple_of(8), 0);
}

pub(super) fn strings(nar: &mut Vec<u8>, texts: &[&str]) {
    texts.iter().for_each(|text| string(nar, text.as_bytes()));
}

/// The NAR of what is at this path.
pub(super) fn of(path: &Path) -> Vec<u8> {
    let mut nar = Vec::new();
    strings(&mut nar, &["nix-archive-1"]);
    node(&mut nar, path);
    nar
}

fn node(nar: &mut Vec<u8>, path: &Path) {
    let metadata = path.symlink_metadata().expect("it is there");
    strings(nar, &["(", "type"]);
    if metadata.is_dir() {
        strings(nar, &["directory"]);
        let mut names: Vec<_> = fs::read_dir(path)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for name in names {
            strings(nar, &["entry", "(", "name"]);
            string(nar, name.as_bytes());
            strings(nar, &["node"]);
            node(nar, &path.join(name));
            strings(nar, &[")"]);
        }
    } else if metadata.is_symlink() {
        strings(nar, &["symlink", "target"]);
        string(nar, fs::read_link(path).expect("a link").as_os_str().as_bytes());
    } else {
        strings(nar, &["regular"]);
        if metadata.permissions().mode() & 0o100 != 0 {
            strings(nar, &["executable", ""]);
        }
        strings(nar, &["contents"]);
        string(nar, &fs::read(path).expect("a file"));
    }
    strings(nar, &[")"]);
}

/// The NAR of one file.
pub(super) fn of_file(bytes: &[u8]) -> Vec<u8> {
    let mut nar = Vec::new();
    strings(&mut nar, &["nix-archive-1", "(", "type", "regular", "contents"]);
    string(&mut nar, bytes);
    strings(&mut nar, &[")"]);
    nar
}
