//! Every input that fuzzing started from or stumbled over, replayed.

use std::path::{Path, PathBuf};

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name)
}

#[test]
fn corpora_hold() {
    for (name, target) in firn_fuzz::TARGETS {
        let files = std::fs::read_dir(corpus(name)).unwrap_or_else(|error| panic!("corpus {name}: {error}"));
        let files: Vec<_> = files.map(|file| file.expect("an entry").path()).collect();
        assert!(files.len() >= 3, "{name} has {} inputs", files.len());
        for file in files {
            let bytes = std::fs::read(&file).expect("an input");
            let held = std::panic::catch_unwind(|| target(&bytes));
            assert!(held.is_ok(), "{name}: {}", file.display());
        }
    }
}

#[test]
fn every_corpus_has_a_target() {
    for entry in std::fs::read_dir(corpus("")).expect("the corpora") {
        let name = entry.expect("an entry").file_name();
        assert!(firn_fuzz::target(&name.to_string_lossy()).is_some(), "{name:?}");
    }
}
