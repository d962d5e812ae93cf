//! `firn serve` and the other commands, started as an operator would.

use crate::{
    nix, package_set,
    program::Program,
    registry::Registry,
    service::Service,
    wait::{LONG, until},
};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long requests that are under way may take when a test is over.
const GRACE: Duration = Duration::from_secs(3);

/// The token with which tests read `/metrics`.
const METRICS_TOKEN: &str = "figures";

/// A running backend with its own data.
pub struct Backend {
    service: Service,
    address: String,
}

/// A backend that is about to be started.
#[must_use]
pub struct Starting {
    arguments: Vec<String>,
    environment: Vec<(String, Option<String>)>,
    data: Option<PathBuf>,
    set: Option<String>,
    within: Vec<String>,
}

/// The program under test: `$FIRN_BIN`, or the one that was built with the tests.
///
/// # Panics
/// If it has not been built.
pub fn firn() -> PathBuf {
    let built = || {
        let test = std::env::current_exe().expect("a test has a file");
        test.ancestors().nth(2).expect("tests are in target/PROFILE/deps").join("firn")
    };
    let path = std::env::var_os("FIRN_BIN").map_or_else(built, PathBuf::from);
    let path = std::path::absolute(path).expect("the current directory exists");
    assert!(path.is_file(), "{} has not been built; run: cargo build -p firn", path.display());
    path
}

/// A `firn` command that is configured only by the test, not by the environment of the caller.
pub fn command(arguments: &[&str]) -> Program {
    let command = Program::at(firn()).args(arguments).env("NIX_CONFIG", nix::config());
    let command = unconfigured().into_iter().fold(command, |command, name| command.without_env(&name));
    match isolation() {
        Some(isolation) => command.env("FIRN_ISOLATION", &isolation),
        None => command,
    }
}

/// The isolation of Nix in tests that do not set it themselves, from `$FIRN_TEST_ISOLATION`. None for Firn's default.
fn isolation() -> Option<String> {
    std::env::var("FIRN_TEST_ISOLATION").ok()
}

/// The variables that would configure Firn.
fn unconfigured() -> Vec<String> {
    let ours = |name: &String| {
        const OURS: [&str; 5] = ["FIRN_", "NIXERY_", "AWS_", "GOOGLE_", "AZURE_"];
        OURS.iter().any(|prefix| name.starts_with(prefix))
            || matches!(name.as_str(), "PORT" | "STORAGE_PATH" | "GCS_BUCKET")
    };
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(ours).collect()
}

impl Backend {
    /// A backend on the bundled package set.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start() -> Self {
        Self::serving(package_set::bundled()).start()
    }

    /// A backend on the package set in this directory.
    pub fn serving(path: &Path) -> Starting {
        Self::with(&["--pkgs-path", path.to_str().expect("UTF-8")])
    }

    /// A backend on a package set that consists of this expression.
    pub fn serving_expression(expression: &str) -> Starting {
        Starting { set: Some(expression.to_owned()), ..Self::with(&[]) }
    }

    /// A backend with only these options, and options for its address and data.
    pub fn with(arguments: &[&str]) -> Starting {
        Starting { arguments: Vec::new(), environment: Vec::new(), data: None, set: None, within: Vec::new() }
            .args(arguments)
    }

    /// `HOST:PORT`, as it precedes an image's name.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A client of this backend.
    pub fn registry(&self) -> Registry {
        Registry::at(&self.address)
    }

    /// Everything that it has logged so far.
    pub fn log(&self) -> String {
        self.service.log()
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.service.dir().join("data")
    }

    /// Its process id.
    pub fn process(&self) -> u32 {
        self.service.process()
    }

    /// How many lines of its log contain this text.
    pub fn logged(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    /// How many Nix processes it has started.
    pub fn nix_processes(&self) -> u64 {
        self.metric("firn_nix_processes_total")
    }

    fn metric(&self, name: &str) -> u64 {
        let authorization = format!("Bearer {METRICS_TOKEN}");
        let metrics = self.registry().request("GET", "/metrics", &[("authorization", &authorization)]).text();
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.expect("the metric is there").parse().expect("a number")
    }

    /// Kills it and everything that it has started, as a power failure or lack of memory would. Returns its log.
    ///
    /// # Panics
    /// If it keeps running.
    pub fn kill(self) -> String {
        let session = self.service.process().to_string();
        let process = Pid::from_raw(self.service.process().cast_signed()).expect("a process number");
        // First the server itself, then what it has started.
        kill_process(process, Signal::KILL).expect("it runs");
        Program::new("pkill").args(["--signal", "KILL", "--session", &session]).run();
        until("the server is dead", LONG, || (!self.service.runs()).then_some(()));
        self.log()
    }

    /// Stops its process with SIGSTOP. It still listens, but answers no request.
    ///
    /// # Panics
    /// If it is not running.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Continues its process.
    ///
    /// # Panics
    /// If it is not running.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(self.service.process().cast_signed()).expect("a process number");
        kill_process(process, signal).expect("it runs");
    }

    /// How many images wait or are being built.
    pub fn waiting(&self) -> u64 {
        self.metric("firn_builds")
    }

    /// Ends it, and waits until it has ended.
    pub fn stop(&mut self) {
        self.service.stop();
    }
}

impl Starting {
    /// Adds these arguments.
    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Sets this variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), Some(value.to_owned())));
        self
    }

    /// Uses this data directory, which is kept afterwards.
    pub fn data(mut self, dir: &Path) -> Self {
        self.data = Some(dir.to_owned());
        self
    }

    /// Starts it through another program with arguments, such as `prlimit --nofile=128:1024`.
    pub fn within(mut self, program: &[&str]) -> Self {
        self.within = program.iter().map(ToString::to_string).collect();
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// If it ends by itself or does not answer.
    pub fn start(self) -> Backend {
        let scratch = crate::service::scratch("backend");
        let data = self.data.unwrap_or_else(|| scratch.join("data"));
        let mut arguments = self.arguments;
        if let Some(expression) = &self.set {
            let set = scratch.join("set");
            package_set::write(&set, expression);
            arguments.extend(["--pkgs-path".into(), set.display().to_string()]);
        }
        let mut command: Vec<_> = self.within.into_iter().map(Into::into).collect();
        command.extend([firn().into_os_string(), "serve".into()]);
        command.extend(["--data".into(), data.into_os_string()]);
        // The system chooses a free port.
        let listens = self.environment.iter().any(|(name, _)| name == "PORT");
        if !listens {
            command.extend(["--listen".into(), "127.0.0.1:0".into()]);
        }
        command.extend(arguments.into_iter().map(Into::into));
        let mut environment: Vec<_> = unconfigured().into_iter().map(|name| (name, None)).collect();
        environment.push(("NIX_CONFIG".into(), Some(nix::config().to_owned())));
        environment.push(("FIRN_LOG".into(), Some("info,firn_backend=debug".into())));
        // A test that is over does not wait for builds.
        environment.push(("FIRN_GRACE".into(), Some("0".into())));
        // Tests count the Nix processes of requests only.
        environment.push(("FIRN_SURVEY".into(), Some("false".into())));
        environment.push(("FIRN_METRICS_TOKEN".into(), Some(METRICS_TOKEN.into())));
        environment.extend(isolation().map(|isolation| ("FIRN_ISOLATION".into(), Some(isolation))));
        environment.extend(self.environment);
        let service = Service::start("backend", scratch, GRACE, &environment, command);
        let address = service.until("is listening", LONG, || {
            let log = service.log();
            let (_, rest) = log.split_once("listening address=")?;
            let address = rest.split_whitespace().next()?;
            rest.contains('\n').then(|| address.replace("0.0.0.0", "127.0.0.1"))
        });
        Backend { service, address }
    }
}
