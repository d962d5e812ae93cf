//! Realising: builds or substitutes store paths, and keeps them in the store while they are needed.

use super::{
    Bounds, Memory, Nix, ProcessError,
    failure::{Fault, Obstacle, Said, Verdict},
    process::INTERRUPTED,
};
use crate::waiting::{Abandoned, Audience};
use firn_shared::naming::package::Package;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Protects store paths from Nix's garbage collection while it exists.
#[derive(Debug)]
pub struct GcRoot {
    links: Vec<PathBuf>,
}

impl Drop for GcRoot {
    fn drop(&mut self) {
        for link in &self.links {
            // A link that is left behind only costs disk space. The next process removes it.
            let _ = std::fs::remove_file(link);
        }
    }
}

/// Why store paths could not be realised.
#[derive(Debug, thiserror::Error)]
pub enum RealiseError {
    /// Packages that would fail again. The other packages have been realised.
    #[error("{}", faults.first().map_or_else(String::new, |fault| fault.blame.to_string()))]
    Hopeless {
        /// The failures in the order in which Nix reported them. At least one.
        faults: Vec<Fault>,
        /// The failure of the process.
        source: ProcessError,
    },
    /// A temporary problem.
    #[error("{obstacle}")]
    Passing {
        /// The problem.
        obstacle: Obstacle,
        /// The failure of the process.
        source: ProcessError,
    },
    /// No client waits any more, and the work had not begun.
    #[error(transparent)]
    Abandoned(#[from] Abandoned),
    /// Anything else: Nix could not be run, its store is locked, or it ran out of time.
    #[error(transparent)]
    Process(ProcessError),
}

impl RealiseError {
    /// The message for clients; `None` if there is nothing that they may know.
    pub fn explain(&self) -> Option<String> {
        let message = match self {
            Self::Abandoned(_) => return Some(self.to_string()),
            Self::Process(ProcessError::Ended { .. }) => INTERRUPTED,
            Self::Process(ProcessError::Timeout { limit, .. }) => {
                let seconds = limit.as_secs();
                return Some(format!("building took longer than the {seconds} s that this registry allows"));
            }
            Self::Process(ProcessError::Memory { limit, .. }) => {
                let mebibytes = limit >> 20;
                return Some(format!(
                    "building took more memory than the {mebibytes} MiB that this registry allows"
                ));
            }
            Self::Process(ProcessError::Failed { .. }) | Self::Hopeless { .. } => {
                "Nix cannot build at the moment; the operator finds the reason in the log"
            }
            Self::Passing { obstacle: Obstacle::Network, .. } => {
                "a build failed for want of network; the operator finds the reason in the log"
            }
            Self::Passing { obstacle: Obstacle::Space, .. } => {
                "a build failed for want of space; the operator finds the reason in the log"
            }
            Self::Passing { obstacle: Obstacle::Ended, .. } => "a build was interrupted; pull again",
            Self::Process(_) => return None,
        };
        Some(message.into())
    }
}

/// How Nix names the outputs of packages.
fn wanted(packages: &[&Package]) -> impl Iterator<Item = OsString> {
    let outputs = packages.iter().flat_map(|package| {
        package.outputs.iter().map(|output| format!("{}!{}", package.drv, output.name).into())
    });
    outputs.collect::<Vec<_>>().into_iter()
}

/// Time limit for finding out what has to be built. Nix asks its caches about each derivation.
const LOOK_AHEAD: Duration = Duration::from_secs(120);

/// Counts the derivations in what Nix says before it begins: `these 3 derivations will be built:`, and a line for each.
#[derive(Debug, Default)]
struct ToBuild {
    count: usize,
    is_listing: bool,
}

impl ToBuild {
    fn hear(&mut self, line: &str) {
        if line.ends_with("will be built:") {
            self.is_listing = true;
        } else if !line.starts_with(' ') {
            self.is_listing = false;
        } else if self.is_listing && line.ends_with(".drv") {
            self.count += 1;
        }
    }
}

static NEXT_ROOT: AtomicU64 = AtomicU64::new(0);

impl Nix {
    /// A GC root for these outputs of derivations, and the link that Nix must create for the first of them.
    pub(super) fn new_root<'a>(&self, outputs: impl Iterator<Item = &'a str>) -> (GcRoot, PathBuf) {
        let link = self.gc_roots.path().join(NEXT_ROOT.fetch_add(1, Ordering::Relaxed).to_string());
        // Nix numbers the links from the second on, and appends the output: link, link-2, link-3-dev, …
        let links = outputs.zip(1..).map(|(output, number)| {
            let mut link = link.clone().into_os_string();
            if number > 1 {
                link.push(format!("-{number}"));
            }
            if output != "out" {
                link.push(format!("-{output}"));
            }
            PathBuf::from(link)
        });
        (GcRoot { links: links.collect() }, link)
    }

    /// How many derivations have to be built for these packages. The derivations of the packages must exist.
    ///
    /// # Errors
    /// If Nix cannot be run, or fails.
    pub async fn to_build(&self, packages: &[&Package]) -> Result<usize, RealiseError> {
        let mut arguments: Vec<OsString> = vec!["--realise".into(), "--dry-run".into()];
        arguments.extend(wanted(packages));
        arguments.extend(self.substituters.iter().cloned());
        let bounds = Bounds { time: LOOK_AHEAD, memory: Memory::Unbounded, gives_way: false };
        let mut to_build = ToBuild::default();
        let looked = self.run("nix-store", arguments, bounds, |line| to_build.hear(line)).await;
        looked.map_err(RealiseError::Process)?;
        Ok(to_build.count)
    }

    /// Realises the selected outputs of packages. They stay in the store while the root exists.
    ///
    /// If one package fails, the others are still realised. The call waits for its turn among the clients. `line` is
    /// called with each line of Nix's structured log.
    ///
    /// # Errors
    /// If a package fails to build, or Nix cannot be run or takes too long.
    pub async fn realise(
        &self,
        packages: &[&Package],
        audience: &Arc<Audience>,
        mut line: impl FnMut(&str) + Send,
    ) -> Result<GcRoot, RealiseError> {
        let _turn = self.realisations.take(audience).await?;
        let timeout = self.limits.build_time.as_secs();
        let mut arguments = vec!["--realise".into()];
        arguments.extend(wanted(packages));
        let outputs = packages.iter().flat_map(|package| &package.outputs);
        let (root, link) = self.new_root(outputs.map(|output| output.name.as_str()));
        arguments.extend(["--add-root".into(), link.into(), "--indirect".into()]);
        arguments.extend(["--keep-going".into(), "--timeout".into(), timeout.to_string().into()]);
        arguments.extend(["--log-format".into(), "internal-json".into()]);
        arguments.extend(self.substituters.iter().cloned());
        let bounds = Bounds {
            time: self.limits.build_time,
            memory: Memory::Family(self.limits.build_memory),
            gives_way: false,
        };
        let mut said = Said::default();
        let hear = |text: &str| {
            said.hear(text);
            line(text);
        };
        let source = match self.run("nix-store", arguments, bounds, hear).await {
            Ok(_) => return Ok(root),
            Err(error) => error,
        };
        let verdict = match source {
            ProcessError::Failed { status, .. } => said.judge(status),
            ProcessError::Timeout { .. } => {
                said.obstacle_when_time_ran_out().map_or(Verdict::Unknown, Verdict::Passing)
            }
            ProcessError::Hindered { obstacle, .. } => Verdict::Passing(obstacle),
            _ => Verdict::Unknown,
        };
        Err(match verdict {
            Verdict::Lasting(faults) => RealiseError::Hopeless { faults, source },
            Verdict::Passing(obstacle) => RealiseError::Passing { obstacle, source },
            Verdict::Unknown => RealiseError::Process(source),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_would_be_built() {
        let check = |text: &str, expect: usize| {
            let mut to_build = ToBuild::default();
            text.lines().for_each(|line| to_build.hear(line));
            assert_eq!(to_build.count, expect, "{text}");
        };
        check("", 0);
        check("this derivation will be built:\n  /nix/store/x-a.drv", 1);
        check(
            "warning: x\nthese 2 derivations will be built:\n  /nix/store/x-a.drv\n  /nix/store/x-b.drv\n\
             these 3 paths will be fetched (1.00 MiB download, 5.00 MiB unpacked):\n  /nix/store/x-c.drv\n  /nix/store/x-d",
            2,
        );
        check("these 3 paths will be fetched (1.00 MiB download, 5.00 MiB unpacked):\n  /nix/store/x-c", 0);
    }
}
