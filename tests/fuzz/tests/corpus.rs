//! Replays every input that fuzzing started from or found.

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
        let mut understood = 0;
        for file in files {
            let bytes = std::fs::read(&file).expect("an input");
            match std::panic::catch_unwind(|| target(&bytes)) {
                Ok(is_understood) => understood += usize::from(is_understood),
                Err(_) => panic!("{name}: {}", file.display()),
            }
        }
        // Inputs in an old format are rejected immediately, so fuzzing that starts from them gets no further.
        assert!(
            understood > 0,
            "no input of {name} is understood; tests/fuzz/records makes those of composition"
        );
    }
}

/// A record is more than the one byte that says that there is no package.
#[test]
fn records_of_packages_are_understood() {
    let target = firn_fuzz::target("composition-package").expect("it is one");
    let inputs = std::fs::read_dir(corpus("composition-package")).expect("the corpus");
    let inputs = inputs.map(|file| std::fs::read(file.expect("an entry").path()).expect("an input"));
    let understood = inputs.filter(|bytes| bytes.len() > 100 && target(bytes)).count();
    assert!(understood >= 2, "{understood} records are understood; tests/fuzz/records makes them");
}

#[test]
fn every_corpus_has_a_target() {
    for entry in std::fs::read_dir(corpus("")).expect("the corpora") {
        let name = entry.expect("an entry").file_name();
        assert!(firn_fuzz::target(&name.to_string_lossy()).is_some(), "{name:?}");
    }
}
