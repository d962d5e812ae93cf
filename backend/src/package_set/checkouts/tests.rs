use super::*;
use crate::waiting::Client;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// A repository with a working tree.
struct Repository(tempfile::TempDir);

impl Repository {
    fn new() -> Self {
        let repository = Self(tempfile::tempdir().expect("a directory"));
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository
    }

    fn url(&self) -> SourceUrl {
        SourceUrl::from(format!("file://{}", self.0.path().display()).as_str())
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=Firn", "-c", "user.email=firn@example.org"])
            .args(arguments)
            .current_dir(self.0.path())
            .env("GIT_COMMITTER_DATE", "@1000000000 +0100")
            .output()
            .expect("git runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, content).expect("written");
    }

    fn commit(&self) -> Commit {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "A package set"]);
        self.git(&["rev-parse", "HEAD"]).parse().expect("a commit")
    }
}

struct Subject {
    data: tempfile::TempDir,
    checkouts: Arc<Checkouts>,
}

impl Subject {
    fn new() -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let checkouts = Checkouts::new(data.path(), Duration::from_secs(60)).expect("checkouts");
        Self { data, checkouts }
    }

    async fn get(&self, url: &SourceUrl, commit: &Commit) -> FetchResult {
        self.checkouts.get(url, commit, &Audience::of(Client::NOBODY)).await.expect("it is not dismissed")
    }

    /// How many checkouts there are. Also asserts that fetches left nothing else.
    fn kept(&self) -> usize {
        let entries = |dir: &Path| fs::read_dir(dir).expect("a directory").count();
        assert_eq!(entries(self.checkouts.staging.path()), 1, "only the lock");
        entries(&self.data.path().join("sources"))
    }
}

#[tokio::test]
async fn the_files_of_a_commit_are_there_as_git_archives_them() {
    let (repository, subject) = (Repository::new(), Subject::new());
    repository.write("default.nix", "one");
    repository.write("pkgs/run.sh", "#!/bin/sh");
    repository.write("secret/x", "not exported");
    repository.write(".gitattributes", "secret export-ignore\n");
    let script = repository.0.path().join("pkgs/run.sh");
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).expect("permissions");
    std::os::unix::fs::symlink("default.nix", repository.0.path().join("link")).expect("linked");
    let first = repository.commit();
    repository.write("default.nix", "two");
    let second = repository.commit();

    let checkout = subject.get(&repository.url(), &first).await.expect("fetched");
    let read = |name: &str| fs::read_to_string(checkout.path().join(name)).expect("a file");
    assert_eq!((read("default.nix").as_str(), read("link").as_str()), ("one", "one"));
    assert_eq!(checkout.date(), Some(1_000_000_000));
    let mode = |name: &str| checkout.path().join(name).metadata().expect("a file").mode() & 0o777;
    assert_eq!((mode("default.nix"), mode("pkgs/run.sh"), mode("pkgs")), (0o644, 0o755, 0o755));
    assert!(!checkout.path().join("secret").exists() && !checkout.path().join(".git").exists());
    // Without the repository, the fetched files are still there, for this process and the next one.
    let url = repository.url();
    drop(repository);
    subject.get(&url, &first).await.expect("it is there");
    let next = Checkouts::new(subject.data.path(), Duration::ZERO).expect("checkouts");
    next.get(&url, &first, &Audience::of(Client::NOBODY))
        .await
        .expect("it is not dismissed")
        .expect("it is there");
    assert!(matches!(subject.get(&url, &second).await, Err(RepositoryError::Unreachable(_))));
    assert_eq!(subject.kept(), 1);
}

#[tokio::test]
async fn what_is_no_commit_of_the_repository_is_not_had() {
    let (repository, subject) = (Repository::new(), Subject::new());
    repository.write("default.nix", "one");
    repository.commit();
    repository.git(&["tag", "--annotate", "--message", "A release", "v1"]);
    let url = repository.url();
    for id in ["v1", "HEAD^{tree}", "HEAD:default.nix"].map(|name| repository.git(&["rev-parse", name])) {
        let got = subject.get(&url, &id.parse().expect("an id")).await;
        assert!(matches!(got, Err(RepositoryError::NoSuchCommit)), "{id}: {got:?}");
    }
    for id in ["0".repeat(40), "1".repeat(40)] {
        let got = subject.get(&url, &id.parse().expect("an id")).await;
        assert!(matches!(got, Err(RepositoryError::NoSuchCommit)), "{id}: {got:?}");
    }
    assert_eq!(subject.kept(), 0);
}

#[tokio::test]
async fn those_that_nobody_reads_are_removed_oldest_first() {
    let (repository, subject) = (Repository::new(), Subject::new());
    let url = repository.url();
    let mut commits = Vec::new();
    for i in 0..KEPT + 3 {
        repository.write("default.nix", &i.to_string());
        commits.push(repository.commit());
    }
    let held = subject.get(&url, &commits[0]).await.expect("fetched");
    for commit in &commits[1..KEPT] {
        subject.get(&url, commit).await.expect("fetched");
    }
    // Make their ages differ clearly.
    for (age, commit) in commits.iter().take(KEPT).rev().enumerate() {
        let key = CacheKey::builder("source-1").field(url.public().as_str()).field(commit.as_str()).build();
        let dir = File::open(subject.data.path().join("sources").join(key.to_string())).expect("a checkout");
        let age = Duration::from_secs(1000 * (age as u64 + 1));
        dir.set_modified(SystemTime::now() - age).expect("a time");
    }
    // Using it again makes it one of the youngest.
    subject.get(&url, &commits[1]).await.expect("it is there");
    for commit in &commits[KEPT..] {
        subject.get(&url, commit).await.expect("fetched");
    }
    assert!(subject.kept() <= KEPT + 1, "{}", subject.kept());
    assert_eq!(fs::read_to_string(held.path().join("default.nix")).expect("it is read"), "0");
    drop(repository);
    assert!(subject.get(&url, &commits[1]).await.is_ok(), "it was used");
    assert!(subject.get(&url, &commits[2]).await.is_err(), "it was not");
}

#[tokio::test]
async fn those_who_want_the_same_wait_for_one_fetch() {
    let (repository, subject) = (Repository::new(), Subject::new());
    repository.write("default.nix", "one");
    let (url, commit) = (repository.url(), repository.commit());
    // A second instance, like another process that uses the same directory.
    let other = Checkouts::new(subject.data.path(), Duration::from_secs(60)).expect("checkouts");
    let firn = Audience::of(Client::NOBODY);
    let all = (0..20).map(|i| {
        let checkouts = if i % 2 == 0 { &subject.checkouts } else { &other };
        checkouts.get(&url, &commit, &firn)
    });
    for got in futures::future::join_all(all).await {
        let checkout = got.expect("it is not dismissed").expect("fetched");
        assert_eq!(fs::read_to_string(checkout.path().join("default.nix")).expect("a file"), "one");
    }
    assert_eq!(subject.kept(), 1);
}

#[test]
fn nothing_is_unpacked_outside() {
    let dir = tempfile::tempdir().expect("a directory");
    let archive = dir.path().join("archive");
    let check = |path: &str, is_refused: bool| {
        let mut builder = tar::Builder::new(File::create(&archive).expect("a file"));
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(1);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        builder.append(&header, &b"x"[..]).expect("appended");
        builder.finish().expect("finished");
        let into = dir.path().join("into");
        fs::create_dir_all(&into).expect("made");
        assert_eq!(unpack(&archive, &into).is_err(), is_refused, "{path}");
        assert!(!dir.path().join("x").exists(), "{path}");
    };
    check("a/x", false);
    check("../x", true);
    check("a/../../x", true);
}
