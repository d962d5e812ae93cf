//! Isolates Nix, and the package code that it runs, from Firn.
//!
//! A process may read the memory, the environment and the files of every other process of its user. Evaluators run
//! package code. So do builders, if Nix has no build users. Without isolation, every package could read Firn's
//! secrets. [bubblewrap](https://github.com/containers/bubblewrap) starts Nix in a process namespace of its own,
//! where Firn's processes do not exist. The file system there is read-only except for Nix's store and temporary
//! files, and lacks the folders that hold secrets. When Nix ends, the kernel ends everything that runs there,
//! builders too.
//!
//! Isolation does not limit resources (see `process`) or the network.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program.
const BUBBLEWRAP: &str = "bwrap";

/// The capabilities of root that Nix needs to set owner and permissions of files in its store. Without the others,
/// root cannot undo the isolation.
const CAPABILITIES: [&str; 6] =
    ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_SETGID", "CAP_SETUID"];

/// The parts of `/run` that programs need: the programs of NixOS, and name resolution. The rest of `/run` has sockets
/// of daemons and credentials.
const OF_RUN: [&str; 4] = ["/run/current-system", "/run/systemd/resolve", "/run/resolvconf", "/run/nscd"];

/// Files and folders below a home directory that give access to other machines.
const OF_HOME: [&str; 12] = [
    ".aws",
    ".azure",
    ".boto",
    ".cargo/credentials.toml",
    ".config/gcloud",
    ".config/gh",
    ".docker",
    ".git-credentials",
    ".gnupg",
    ".kube",
    ".netrc",
    ".ssh",
];

/// Why Nix cannot be isolated.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// bubblewrap is not installed.
    #[error("bubblewrap (bwrap) is not installed")]
    Missing,
    /// bubblewrap fails, for example because this machine does not let users create namespaces.
    #[error("bubblewrap (bwrap) does not work here: {0}")]
    Refused(String),
}

/// What Nix cannot see, and what it may write.
#[derive(Debug, Clone)]
pub struct Isolation {
    /// The arguments of bubblewrap that precede the program.
    arguments: Vec<OsString>,
}

/// Firn's own files, and how Nix may use them.
#[derive(Debug, Clone, Default)]
pub struct OwnFiles {
    /// Folders that only Firn uses: the data directory, the storage.
    pub hidden: Vec<PathBuf>,
    /// Files with secrets.
    pub secrets: Vec<PathBuf>,
    /// Whether callers choose what is evaluated and built.
    pub strangers: bool,
    /// Folders inside hidden ones that Nix writes to.
    pub written: Vec<PathBuf>,
    /// Folders inside hidden ones that Nix reads.
    pub read: Vec<PathBuf>,
}

impl Isolation {
    /// Finds out whether Nix can be isolated.
    ///
    /// # Errors
    /// If it cannot.
    pub fn new(own: &OwnFiles) -> Result<Self, IsolationError> {
        let isolation = Self { arguments: arguments(own, std::env::home_dir().as_deref()) };
        let (program, arguments) = isolation.wrap("/bin/sh".as_ref(), &["-c".into(), ":".into()]);
        let tried = Command::new(program).args(arguments).stdin(Stdio::null()).output();
        match tried {
            Ok(output) if output.status.success() => Ok(isolation),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                Err(IsolationError::Refused(said))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(IsolationError::Missing),
            Err(error) => Err(IsolationError::Refused(error.to_string())),
        }
    }

    /// The command line that starts a program in isolation.
    pub(super) fn wrap(&self, program: &OsStr, arguments: &[OsString]) -> (OsString, Vec<OsString>) {
        let program = [OsString::from("--"), program.to_owned()];
        let all = self.arguments.iter().chain(&program).chain(arguments);
        (BUBBLEWRAP.into(), all.cloned().collect())
    }
}

/// The arguments of bubblewrap. Later mounts cover earlier ones.
fn arguments(own: &OwnFiles, home: Option<&Path>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |words: &[&OsStr]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
    let word = OsStr::new;
    add(&["--die-with-parent", "--unshare-pid", "--cap-drop", "ALL"].map(word));
    if rustix::process::geteuid().is_root() {
        CAPABILITIES.iter().for_each(|capability| add(&["--cap-add", capability].map(word)));
    }
    add(&["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/run"].map(word));
    OF_RUN.iter().for_each(|place| add(&["--ro-bind-try", place, place].map(word)));
    let variables = ["NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR", "TMPDIR"];
    let set = variables.iter().filter_map(std::env::var_os).map(PathBuf::from);
    for place in ["/nix", "/tmp", "/var/tmp"].map(PathBuf::from).into_iter().chain(set) {
        add(&[word("--bind-try"), place.as_os_str(), place.as_os_str()]);
    }
    let of_home = home.into_iter().flat_map(|home| OF_HOME.iter().map(|place| home.join(place)));
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    for place in
        own.hidden.iter().cloned().chain(of_home).chain(credentials).chain(own.secrets.iter().cloned())
    {
        if place.is_dir() {
            add(&[word("--tmpfs"), place.as_os_str()]);
        } else if place.exists() {
            add(&[word("--ro-bind"), word("/dev/null"), place.as_os_str()]);
        }
    }
    for place in &own.read {
        add(&[word("--ro-bind-try"), place.as_os_str(), place.as_os_str()]);
    }
    for place in &own.written {
        add(&[word("--bind"), place.as_os_str(), place.as_os_str()]);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The output of a shell script that runs in isolation.
    fn sees(own: &OwnFiles, script: &str) -> String {
        let isolation = Isolation::new(own).expect("setup/nix installs bubblewrap");
        let (program, arguments) = isolation.wrap("/bin/sh".as_ref(), &["-c".into(), script.into()]);
        let output = Command::new(program).args(arguments).output().expect("it runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    #[test]
    fn hides_processes_and_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data");
        let (nix, secret) = (data.join("nix"), dir.path().join("secret"));
        std::fs::create_dir_all(&nix).expect("made");
        std::fs::write(data.join("blob"), "x").expect("written");
        std::fs::write(&secret, "s3cret").expect("written");
        let own = OwnFiles {
            hidden: vec![data.clone()],
            secrets: vec![secret.clone()],
            strangers: true,
            written: vec![nix.clone()],
            read: vec![data.join("none")],
        };
        let check = |script: String, expect: &str| assert_eq!(sees(&own, &script), expect, "{script}");
        check(format!("ls {}", data.display()), "nix");
        check(format!("cat {}", secret.display()), "");
        check(format!("echo y >{0}/y && cat {0}/y", nix.display()), "y");
        assert!(nix.join("y").exists(), "what is written there stays");
        check("touch /etc/firn-was-here 2>/dev/null || echo no".into(), "no");
        check(format!("test -e /proc/{}/environ || echo no", std::process::id()), "no");
        check("test $(ls /proc | grep -c '^[0-9]') -lt 8 && echo few".into(), "few");
        check("umount /run 2>/dev/null || mount -t tmpfs x /mnt 2>/dev/null || echo no".into(), "no");
        check("ls -A /run | grep -c sock".into(), "0");
        check("ls /dev | grep -c vda".into(), "0");
    }
}
