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
        let checkouts = Arc::new(Checkouts::new(data.path(), Duration::from_secs(60)).expect("checkouts"));
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
    let next = Arc::new(Checkouts::new(subject.data.path(), Duration::ZERO).expect("checkouts"));
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
    let other = Arc::new(Checkouts::new(subject.data.path(), Duration::from_secs(60)).expect("checkouts"));
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

/// A host that serves repositories and archives of their commits as files.
struct Host {
    root: tempfile::TempDir,
    url: String,
    requests: std::sync::mpsc::Receiver<String>,
}

impl Host {
    fn start(repository: &Repository) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let (url, requests) = firn_tests::web::serve_files(root.path().to_owned(), usize::MAX);
        let bare = root.path().join("o/r.git").display().to_string();
        repository.git(&["clone", "--quiet", "--bare", ".", &bare]);
        let dir = format!("--git-dir={bare}");
        repository.git(&[&dir, "update-server-info"]);
        fs::create_dir_all(root.path().join("o/r/archive")).expect("made");
        Self { root, url, requests }
    }

    fn repository(&self) -> SourceUrl {
        format!("{}/o/r.git", self.url).as_str().into()
    }

    /// Where the archive of a commit is.
    fn archive(&self, commit: &Commit) -> PathBuf {
        self.root.path().join(format!("o/r/archive/{}.tar.gz", commit.as_str()))
    }

    /// Checkouts that use this host's archives.
    fn subject(&self) -> Subject {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let Subject { data, checkouts } = Subject::new();
        let hosts = format!("{}=github", self.url.trim_start_matches("http://")).parse().expect("a host");
        let checkouts = Arc::into_inner(checkouts).expect("nobody else has it").with_archives(hosts);
        Subject { data, checkouts: Arc::new(checkouts) }
    }

    /// Whether git has asked it for something since the last call.
    fn was_asked_by_git(&self) -> bool {
        self.requests.try_iter().filter(|line| line.contains("/r.git/")).count() > 0
    }
}

#[tokio::test]
async fn an_archive_has_the_same_files_as_git_and_replaces_it() {
    let repository = Repository::new();
    repository.write("default.nix", "one");
    repository.write("pkgs/run.sh", "#!/bin/sh");
    repository.write("secret/x", "not exported");
    repository.write(".gitattributes", "secret export-ignore\n");
    let script = repository.0.path().join("pkgs/run.sh");
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).expect("permissions");
    std::os::unix::fs::symlink("../outside", repository.0.path().join("link")).expect("linked");
    let commit = repository.commit();
    let host = Host::start(&repository);
    let output = format!("--output={}", host.archive(&commit).display());
    let prefix = format!("--prefix=r-{}/", commit.as_str());
    // GitHub's files may be written to by their group.
    repository.git(&[
        "-c",
        "tar.umask=0002",
        "archive",
        "--format=tar.gz",
        &output,
        &prefix,
        commit.as_str(),
    ]);

    let subject = host.subject();
    let from_archive = subject.get(&host.repository(), &commit).await.expect("fetched");
    assert!(!host.was_asked_by_git());
    let plain = Subject::new();
    let from_git = plain.get(&host.repository(), &commit).await.expect("fetched");
    assert!(host.was_asked_by_git());
    let hashes = [from_archive.nar_hash().await.expect("read"), from_git.nar_hash().await.expect("read")];
    assert_eq!(hashes[0], hashes[1]);
    assert_eq!(from_archive.nar_hash().await.expect("read"), hashes[0], "it is known");
    assert_eq!((from_archive.date(), from_git.date()), (Some(1_000_000_000), Some(1_000_000_000)));
    let mode = |name: &str| from_archive.path().join(name).metadata().expect("a file").mode() & 0o777;
    assert_eq!((mode("default.nix"), mode("pkgs/run.sh")), (0o644, 0o755));
    assert_eq!(subject.kept(), 1);
}

#[tokio::test]
async fn git_fetches_what_no_right_archive_is_there_of() {
    let repository = Repository::new();
    let commits = ["one", "two", "three", "four"].map(|text| {
        repository.write("default.nix", text);
        repository.commit()
    });
    let host = Host::start(&repository);
    let archive = |of: &Commit, prefix: &str, to: &Commit| {
        let output = format!("--output={}", host.archive(to).display());
        let prefix = format!("--prefix={prefix}");
        repository.git(&["archive", "--format=tar.gz", &output, &prefix, of.as_str()]);
    };
    let [absent, another, cut, bare] = &commits;
    archive(absent, "r/", another);
    archive(cut, "r/", cut);
    let whole = fs::read(host.archive(cut)).expect("it was made");
    fs::write(host.archive(cut), &whole[..whole.len() / 2]).expect("written");
    archive(bare, "", bare);
    let subject = host.subject();
    for (commit, text) in commits.iter().zip(["one", "two", "three", "four"]) {
        let checkout = subject.get(&host.repository(), commit).await.expect("fetched");
        assert_eq!(fs::read_to_string(checkout.path().join("default.nix")).expect("a file"), text);
        assert!(host.was_asked_by_git(), "{text}");
    }
    assert_eq!(subject.kept(), commits.len());
}
