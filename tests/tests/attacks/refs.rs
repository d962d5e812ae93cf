//! Made-up tags of a repository that responds slowly.

use firn_tests::{
    backend::Backend,
    caller::{Caller, Crowd},
    git::Repository,
    package_set,
    program::find,
    wait::{LONG, until},
};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

/// A directory with a `git` that hangs for every ref that was made up.
fn slow_git(dir: &Path) -> String {
    let script = format!(
        "#!/bin/bash\ncase \"$*\" in *ls-remote*made-up*) exec sleep 600;; esac\nexec '{}' \"$@\"\n",
        find("git").display()
    );
    fs::create_dir_all(dir).expect("a directory");
    let path = dir.join("git");
    fs::write(&path, script).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
    format!("{}:{}", dir.display(), std::env::var("PATH").expect("$PATH is set"))
}

#[test]
fn made_up_tags_keep_latest_from_nobody() {
    let dir = TempDir::new().expect("a temporary directory");
    let repository = Repository::new(&dir.path().join("repository"));
    repository.commit(&package_set::small(&format!("refs {}", std::process::id())));
    let backend = Backend::with(&["--pkgs-repo", &repository.url()])
        .env("PATH", &slow_git(&dir.path().join("bin")))
        .start();
    let requests =
        (0..120).map(|n| (Caller::new(&backend, 2 + n % 2), format!("/v2/greeting/manifests/made-up-{n}")));
    let crowd = Crowd::ask(requests);
    // As many wait as may. Some are refused for that reason.
    until("some are refused", LONG, || (crowd.answered() >= 20).then_some(()));
    // The configured commit waits for none of them. A build does not ask the repository.
    let bystander = Caller::new(&backend, 4);
    let (status, body) = until("the image is built", LONG, || {
        let answer = bystander.ask("greeting");
        let waits = answer.0 == 429 && answer.1.contains("greeting is being built");
        (!waits).then_some(answer)
    });
    assert_eq!(status, 200, "{body}");
    drop(crowd);
}
