//! A Docker daemon for one test.

use crate::{
    program::{Finished, Program, find, find_all},
    service::{Service, scratch},
    wait::LONG,
};
use std::path::Path;
use std::time::Duration;

const GRACE: Duration = Duration::from_secs(15);

/// The two builders of a `Dockerfile`.
#[derive(Debug, Clone, Copy)]
pub enum Builder {
    /// Docker's original builder.
    Classic,
    /// The default since Docker 23.
    BuildKit,
}

/// A running daemon that has no images.
pub struct Dockerd {
    service: Service,
}

impl Dockerd {
    /// Starts a daemon that changes neither the machine's network nor any other daemon. By Docker's default,
    /// registries on the loopback interface need no TLS. It decompresses gzip with pigz.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one that decompresses gzip itself, as on a machine without pigz.
    ///
    /// # Panics
    /// If it does not start.
    pub fn without_pigz() -> Self {
        Self::with(&[("MOBY_DISABLE_PIGZ".to_owned(), Some("1".to_owned()))])
    }

    fn with(environment: &[(String, Option<String>)]) -> Self {
        find("unpigz");
        let (docker, dockerd) = (find("docker"), find("dockerd"));
        // dockerd starts these by their names.
        find("containerd");
        find("runc");
        let scratch = scratch("docker");
        let path = |name: &str| scratch.join(name).display().to_string();
        let command = [
            dockerd.display().to_string(),
            format!("--data-root={}", path("data")),
            format!("--exec-root={}", path("exec")),
            format!("--pidfile={}", path("pid")),
            format!("--host=unix://{}", path("socket")),
            "--iptables=false".to_owned(),
            "--ip6tables=false".to_owned(),
            "--ip-masq=false".to_owned(),
            "--bridge=none".to_owned(),
        ];
        let service = Service::start("dockerd", scratch.clone(), GRACE, environment, command);
        let daemon = Self { service };
        daemon
            .service
            .until("answers", LONG, || (daemon.docker_at(&docker, &["version"]).status == 0).then_some(()));
        daemon
    }

    fn docker_at(&self, docker: &Path, arguments: &[&str]) -> Finished {
        self.client(docker).args(arguments).run()
    }

    fn client(&self, docker: &Path) -> Program {
        let dir = self.service.dir();
        Program::at(docker)
            .env("DOCKER_HOST", self.host())
            .env("DOCKER_CONFIG", dir.join("config"))
            .without_env("DOCKER_CONTEXT")
    }

    /// Where clients reach it, `unix://…`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.service.dir().join("socket").display())
    }

    /// Runs the docker command with this daemon.
    pub fn docker(&self, arguments: &[&str]) -> Finished {
        self.docker_at(&find("docker"), arguments)
    }

    /// Pulls an image.
    pub fn pull(&self, image: &str) {
        self.docker(&["pull", "--quiet", image]).succeeded();
    }

    /// Runs a command in a container without network. `options` come before the image.
    pub fn run(&self, options: &[&str], image: &str, command: &[&str]) -> Finished {
        let arguments = [&["run", "--rm", "--network=none"], options, &[image], command].concat();
        self.docker(&arguments)
    }

    /// Builds an image from a directory with a `Dockerfile`, without network: its base image must have been pulled.
    pub fn build(&self, builder: Builder, directory: &Path, tag: &str) -> Finished {
        let buildkit = match builder {
            Builder::Classic => "0",
            Builder::BuildKit => "1",
        };
        // Other clients leave BuildKit to a plugin, which may not be installed.
        let version = version(&find("dockerd"));
        let docker = find_all("docker").find(|docker| self::version(docker) == version);
        self.client(&docker.expect("a client of the daemon's version"))
            .env("DOCKER_BUILDKIT", buildkit)
            .args(["build", "--network=none", "--no-cache", "--tag", tag])
            .args([directory])
            .run()
    }
}

/// `20.10.24+dfsg1` of `Docker version 20.10.24+dfsg1, build 5d6db84`.
fn version(program: &Path) -> Option<String> {
    let said = Program::at(program).args(["--version"]).run().succeeded();
    said.split([' ', ',']).nth(2).map(str::to_owned)
}
