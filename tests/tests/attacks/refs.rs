//! Tags that callers make up, of a repository that takes its time.

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

/// A directory with a `git` that keeps everybody waiting who asks for a ref that was made up.
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
    // As many wait as may, and some are refused for that.
    until("some are refused", LONG, || (crowd.answered() >= 20).then_some(()));
    // The commit that is configured waits for none of them. Building takes no look at the repository.
    let bystander = Caller::new(&backend, 4);
    let (status, body) = until("the image is built", LONG, || {
        let answer = bystander.ask("greeting");
        let waits = answer.0 == 429 && answer.1.contains("greeting is being built");
        (!waits).then_some(answer)
    });
    assert_eq!(status, 200, "{body}");
    drop(crowd);
}
