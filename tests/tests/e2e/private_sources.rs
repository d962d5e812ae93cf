//! Private repositories: git reads them as at the operator's prompt, and the credentials are shown to no client.

use firn_tests::{
    backend::{Backend, command},
    git::Repository,
    git_server::GitServer,
    image::Image,
    package_set,
    program::Finished,
    registry::Registry,
    web,
};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

const TOKEN: &str = "t0ken-that-nobody-sees";
const OTHER_TOKEN: &str = "t0ken-of-the-next-month";

/// Whether a file below a directory contains a text.
fn holds(dir: &Path, text: &str) -> bool {
    fs::read_dir(dir).into_iter().flatten().flatten().any(|entry| {
        let path = entry.path();
        let kind = entry.file_type().expect("it has a type");
        if kind.is_dir() {
            return holds(&path, text);
        }
        let bytes = if kind.is_file() { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

fn greeting(registry: &Registry) -> Image {
    registry.built("greeting", "latest");
    Image::pull(registry, "greeting")
}

#[test]
fn a_token_in_the_url_is_shown_nowhere_and_can_be_changed() {
    let dir = TempDir::new().expect("a temporary directory");
    let repository = Repository::new(&dir.path().join("set"));
    repository.commit(&package_set::small("private"));
    let server = GitServer::start(dir.path(), &format!("ann:{TOKEN}"));
    let data = dir.path().join("data");
    let backend = |token: &str| {
        let url = server.url_for(&format!("ann:{token}"), "set/.git");
        Backend::with(&["--pkgs-repo", &url]).env("GIT_CONFIG_GLOBAL", "/dev/null").data(&data).start()
    };
    let first = backend(TOKEN);
    let image = greeting(&first.registry());
    let manifest = first.registry().manifest("greeting");
    let source = manifest.json()["annotations"]["org.opencontainers.image.source"].clone();
    assert_eq!(source, server.url("set/.git"));
    assert!(!first.log().contains("t0ken"), "{}", first.log());
    drop(first);
    assert!(!holds(&data, "t0ken"));

    // Another token is not another package set: nothing is evaluated or built.
    server.admit(&format!("ann:{OTHER_TOKEN}"));
    let second = backend(OTHER_TOKEN);
    assert_eq!(greeting(&second.registry()).digest, image.digest);
    assert_eq!(second.nix_processes(), 0);
    drop(second);

    // An expired token is not shown either.
    let third = backend(TOKEN);
    let answer = third.registry().get("/v2/greeting/manifests/latest");
    let (code, message) = answer.error();
    assert_eq!((answer.status, code.as_str()), (503, "UNAVAILABLE"), "{message}");
    let log = third.log();
    assert!(log.contains("cannot be reached") && log.contains("Authentication failed"), "{log}");
    assert!(!log.contains("t0ken") && !message.contains("t0ken"), "{log}");
    drop(third);
    assert!(!holds(&data, "t0ken"));

    let url = server.url_for(&format!("ann:{TOKEN}"), "set/.git");
    for arguments in [&["check-config"][..], &["check-config", "--json"], &["serve", "--help"]] {
        let said = command(&[arguments, &["--data", &data.display().to_string()]].concat())
            .env("FIRN_PKGS_REPO", &url)
            .run();
        let all = format!("{}{}", String::from_utf8_lossy(&said.stdout), said.stderr);
        assert!(all.contains("pkgs-repo") && !all.contains("t0ken"), "{arguments:?}: {all}");
    }
}

/// Runs `check-config` on the package set, with a home directory of its own.
fn check(url: &str, home: &Path, more: &[&str], environment: &[(&str, &str)]) -> Finished {
    let data = home.join("data").display().to_string();
    let command = command(&[&["check-config", "--pkgs-repo", url, "--data", &data], more].concat())
        .env("HOME", home.display().to_string())
        .without_env("GIT_CONFIG_GLOBAL")
        .without_env("XDG_CONFIG_HOME");
    environment.iter().fold(command, |command, (name, value)| command.env(name, value)).run()
}

fn loads(said: &Finished, commit: &str) {
    let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), said.stderr);
    assert!(text.contains(&format!("loads at commit {commit}")), "{text}");
}

#[test]
fn git_finds_credentials_where_it_always_does() {
    let dir = TempDir::new().expect("a temporary directory");
    let repository = Repository::new(&dir.path().join("set"));
    let commit = repository.commit(&package_set::small("private"));
    let server = GitServer::start(dir.path(), &format!("ann:{TOKEN}"));
    let (host, url) = (server.host().to_owned(), server.url("set/.git"));
    let home = || TempDir::new_in(dir.path()).expect("a temporary directory");

    let nobody = home();
    let said = check(&url, nobody.path(), &[], &[]);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status != 0 && text.contains("cannot be reached"), "{text}");

    let netrc = home();
    let name = host.split(':').next().expect("a host");
    fs::write(netrc.path().join(".netrc"), format!("machine {name} login ann password {TOKEN}\n"))
        .expect("written");
    loads(&check(&url, netrc.path(), &[], &[]), &commit);

    let helper = home();
    let settings = format!(
        "[credential \"http://{host}\"]\n  helper = \"!f() {{ echo username=ann; echo password={TOKEN}; }}; f\"\n"
    );
    fs::write(helper.path().join(".gitconfig"), settings).expect("written");
    loads(&check(&url, helper.path(), &[], &[]), &commit);

    // Settings in the environment, as in containers, together with those that Firn adds.
    let environment = home();
    let instead = format!("url.{}.insteadOf", server.url_for(&format!("ann:{TOKEN}"), ""));
    let count = [("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", &instead), ("GIT_CONFIG_VALUE_0", "firn:")];
    loads(&check("firn:set/.git", environment.path(), &[], &count), &commit);
    for line in server.seen() {
        assert!(!line.contains("t0ken"), "{line}");
    }
}

#[test]
fn ssh_sees_the_operators_home_and_agent() {
    let dir = TempDir::new().expect("a temporary directory");
    let place = dir.path().join("set");
    let repository = Repository::new(&place);
    let commit = repository.commit(&package_set::small("private"));
    // Does what ssh would do on the host, if it gets the agent and the configuration.
    let ssh = dir.path().join("ssh");
    let script = "#!/bin/sh\n[ \"$SSH_AUTH_SOCK\" = /run/agent ] && [ -e \"$HOME/.ssh/config\" ] || exit 77\n\
                  for last; do :; done\nexec sh -c \"$last\"\n";
    fs::write(&ssh, script).expect("written");
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).expect("permissions");
    let home = dir.path().join("home");
    fs::create_dir_all(home.join(".ssh")).expect("made");
    fs::write(home.join(".ssh/config"), "").expect("written");
    let command = ssh.display().to_string();
    let environment = [("SSH_AUTH_SOCK", "/run/agent"), ("GIT_SSH_COMMAND", command.as_str())];
    for url in [
        format!("git@example.org:{}", place.display()),
        format!("ssh://git:t0ken@example.org{}", place.display()),
    ] {
        let said = check(&url, &home, &[], &environment);
        loads(&said, &commit);
        assert!(!String::from_utf8_lossy(&said.stdout).contains("t0ken"));
    }
    let said = check(&format!("git@example.org:{}", place.display()), &home, &[], &environment[1..]);
    assert!(String::from_utf8_lossy(&said.stdout).contains("cannot be reached"));
}

/// One commit if the host serves single commits, otherwise its branches and tags, but never pull requests.
#[test]
fn nothing_else_is_fetched() {
    let dir = TempDir::new().expect("a temporary directory");
    let place = dir.path().join("set");
    let repository = Repository::new(&place);
    let old = repository.commit(&package_set::small("old"));
    let new = repository.commit(&package_set::small("new"));
    repository.git(&["checkout", "--quiet", "-b", "proposed"]);
    let proposed = repository.commit(&package_set::small("proposed"));
    repository.git(&["checkout", "--quiet", "main"]);
    repository.git(&["update-ref", "refs/pull/2/head", &proposed]);
    repository.git(&["branch", "--quiet", "-D", "proposed"]);
    let fetched = |url: &str, commit: &str, more: &[(&str, &str)]| {
        let home = TempDir::new_in(dir.path()).expect("a temporary directory");
        let trace = home.path().join("trace").display().to_string();
        let environment = [&[("GIT_TRACE_PACKET", trace.as_str())], more].concat();
        let said = check(url, home.path(), &["--pkgs-ref", commit, "--revisions", "any"], &environment);
        let trace = fs::read_to_string(trace).unwrap_or_default();
        let wants = trace.lines().filter_map(|line| line.split_once(" fetch> want ").map(|(_, want)| want));
        let wants: Vec<String> = wants.map(|want| want[..40].to_owned()).collect();
        (said, wants)
    };
    let (said, wants) = fetched(&repository.url(), &old, &[]);
    loads(&said, &old);
    assert_eq!(wants, [old.as_str()]);

    // An old host serves the commits of its refs, and no others by id.
    let version =
        [("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "protocol.version"), ("GIT_CONFIG_VALUE_0", "0")];
    let (said, wants) = fetched(&repository.url(), &old, &version);
    loads(&said, &old);
    assert!(wants.contains(&new) && !wants.contains(&proposed), "{wants:?}");
    let (said, wants) = fetched(&repository.url(), &"1".repeat(40), &version);
    assert!(String::from_utf8_lossy(&said.stdout).contains("no such commit"), "{}", said.stderr);
    assert!(!wants.contains(&proposed), "{wants:?}");

    // A plain web server that does not run git.
    repository.git(&["update-server-info"]);
    let (files, _requests) = web::serve_files(place.join(".git"), usize::MAX);
    let (said, _) = fetched(&files, &old, &[("GIT_SMART_HTTP", "0")]);
    loads(&said, &old);
}
