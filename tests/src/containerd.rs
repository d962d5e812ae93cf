//! A containerd for one test, driven by its `ctr`.

use crate::{
    program::{Finished, Program, find},
    service::{Service, scratch},
    wait::LONG,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const GRACE: Duration = Duration::from_secs(15);

/// A running containerd that has no images.
pub struct Containerd {
    service: Service,
}

impl Containerd {
    /// Starts it without the plugin for Kubernetes, which needs a network. It decompresses gzip with pigz.
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
        Self::with(&[("CONTAINERD_DISABLE_PIGZ".to_owned(), Some("1".to_owned()))])
    }

    fn with(environment: &[(String, Option<String>)]) -> Self {
        find("unpigz");
        let containerd = find("containerd");
        find("runc");
        let scratch = scratch("containerd");
        let config = format!(
            "version = 2\nroot = '{dir}/root'\nstate = '{dir}/state'\n\
             disabled_plugins = ['io.containerd.grpc.v1.cri']\n\
             [grpc]\naddress = '{dir}/socket'\n[ttrpc]\naddress = '{dir}/socket.ttrpc'\n",
            dir = scratch.display()
        );
        let file = scratch.join("config.toml");
        std::fs::write(&file, config).expect("the configuration can be written");
        let command = [containerd.as_os_str(), "--config".as_ref(), file.as_os_str()];
        let daemon = Self { service: Service::start("containerd", scratch, GRACE, environment, command) };
        daemon.service.until("answers", LONG, || (daemon.ctr(&["version"]).status == 0).then_some(()));
        daemon
    }

    /// Runs `ctr` with this containerd.
    pub fn ctr(&self, arguments: &[&str]) -> Finished {
        self.client("ctr", arguments)
    }

    /// Runs the `ctr` of the Stargz Snapshotter, which converts images.
    pub fn ctr_remote(&self, arguments: &[&str]) -> Finished {
        self.client("ctr-remote", arguments)
    }

    fn client(&self, name: &str, arguments: &[&str]) -> Finished {
        let socket = self.service.dir().join("socket");
        Program::new(name).args(["--address".as_ref(), socket.as_os_str()]).args(arguments).run()
    }

    /// Pulls an image. `ctr` needs its tag.
    pub fn pull(&self, image: &str) {
        self.ctr(&["images", "pull", "--plain-http", image]).succeeded();
    }

    /// Runs a command in a container without network. `options` come before the image.
    pub fn run(&self, options: &[&str], image: &str, command: &[&str]) -> Finished {
        // runc identifies containers by name only, for all containerds of a machine.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let container = format!("firn-test-{}-{number}", std::process::id());
        let arguments = [&["run", "--rm"], options, &[image, &container], command].concat();
        self.ctr(&arguments)
    }
}
