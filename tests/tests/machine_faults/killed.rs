//! A server that is killed at any moment of a build loses nothing that it has acknowledged, and shows nothing
//! incomplete.

use crate::storage::{fsck, is_clean, nothing_is_unfinished, problems};
use firn_tests::{backend::Backend, image::Image, package_set, random::Random, registry::ACCEPT};
use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How many builds are killed, by all servers together, unless `$FIRN_TEST_KILLS` is set.
const KILLS: usize = 200;
/// How many kills may come too late, as a multiple of the others.
const LATE: usize = 3;
/// How many servers are killed at the same time. Each has its own data.
const SERVERS: usize = 2;

type Phases = BTreeMap<&'static str, usize>;

/// How far a build had come, according to its server's log.
fn phase(log: &str) -> &'static str {
    let ended = |program: &str| {
        log.lines().filter(|line| line.contains("nix process ended") && line.contains(program)).count()
    };
    match (ended("nix-instantiate"), ended("nix-store")) {
        _ if log.contains("layer packed") => "while it packed layers or stored the image",
        (0, _) => "before its first step had ended",
        (_, 0) => "while Nix built",
        (_, 1) => "while it read closures",
        (_, _) => "before its first layer was stored",
    }
}

/// The state of one server that is killed repeatedly.
struct Life<'a> {
    set: &'a Path,
    data: TempDir,
    /// For Nix's own unfinished files, which do not matter here.
    scratch: TempDir,
    random: Random,
    /// The images that clients were told exist: names and digests.
    acknowledged: Vec<(String, String)>,
    /// How long the build of a new image takes, and of one that was interrupted once.
    builds: [Duration; 2],
    interrupted: usize,
    kills: usize,
    /// How many builds were killed in each phase.
    phases: Phases,
}

impl Life<'_> {
    fn start(&self) -> Backend {
        let scratch = self.scratch.path().display().to_string();
        let set = self.set.display().to_string();
        let backend = Backend::with(&["--pkgs-path", &set]).data(self.data.path());
        backend.env("TMPDIR", &scratch).start()
    }

    fn verify(&self, backend: &Backend, name: &str, digest: &str) {
        let registry = backend.registry();
        let answer = registry.manifest(name);
        let image = Image::from_answer(&registry, name, &answer);
        assert_eq!(image.digest, digest, "{name} is the image that was acknowledged");
        image.layers(&registry);
    }

    /// Starts the server, checks what the last kill has left, and kills the server while it builds.
    fn round(&mut self, name: &str, is_new: bool) {
        let backend = self.start();
        nothing_is_unfinished(self.data.path(), 1);
        let built = backend.logged("built image.name=");
        if let Some((name, digest)) = self.acknowledged.last() {
            self.verify(&backend, name, digest);
        }
        if !self.acknowledged.is_empty() {
            let (name, digest) = &self.acknowledged[self.random.below(self.acknowledged.len())];
            self.verify(&backend, name, digest);
        }
        assert_eq!(backend.logged("built image.name="), built, "what was acknowledged is not built again");

        let (registry, path) = (backend.registry(), format!("/v2/{name}/manifests/latest"));
        let client = thread::spawn(move || {
            let started = Instant::now();
            registry.try_request("GET", &path, &ACCEPT).map(|answer| (answer, started.elapsed()))
        });
        // Kill it at any moment of the build, and sometimes just afterwards.
        let takes = &mut self.builds[usize::from(!is_new)];
        thread::sleep(self.random.within(takes.mul_f64(1.1)));
        let log = backend.kill();
        self.kills += 1;
        match client.join().expect("the client's thread") {
            Ok((answer, took)) => {
                *takes = (*takes * 3 + took) / 4;
                assert_eq!(answer.status, 200, "{name}: {}", answer.text());
                let digest = answer.header("docker-content-digest").expect("a digest");
                self.acknowledged.push((name.to_owned(), digest.to_owned()));
            }
            Err(_) => {
                self.interrupted += 1;
                *self.phases.entry(phase(&log)).or_default() += 1;
            }
        }
        is_clean(self.data.path());
        nothing_is_unfinished(self.data.path(), 0);
    }

    /// How long a build takes that is not interrupted.
    fn measure(&mut self, name: &str) {
        let backend = self.start();
        let started = Instant::now();
        let image = Image::pull(&backend.registry(), name);
        self.builds = [started.elapsed(); 2];
        self.acknowledged.push((name.to_owned(), image.digest));
        backend.kill();
    }
}

#[test]
fn a_killed_server_loses_nothing() {
    let kills = std::env::var("FIRN_TEST_KILLS")
        .map_or(KILLS, |kills| kills.parse().expect("FIRN_TEST_KILLS is a number"));
    let random = Random::seeded("a_killed_server_loses_nothing");
    let set = TempDir::new().expect("a temporary directory");
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let each = kills.div_ceil(SERVERS);
    let packages = each * (LATE + 1) + 2;
    package_set::write(
        &set.path().join("set"),
        &package_set::many(packages * SERVERS, u64::try_from(time.as_nanos() % (1 << 60)).expect("small")),
    );
    let set = set.path().join("set");
    let ended: Vec<(usize, usize, Phases)> = thread::scope(|scope| {
        let lives: Vec<_> = (0..SERVERS)
            .map(|server| {
                let mut life = Life {
                    set: &set,
                    data: TempDir::new().expect("a temporary directory"),
                    scratch: TempDir::new().expect("a temporary directory"),
                    random: random.split(server),
                    acknowledged: Vec::new(),
                    builds: [Duration::ZERO; 2],
                    interrupted: 0,
                    kills: 0,
                    phases: Phases::new(),
                };
                scope.spawn(move || {
                    let first = server * packages;
                    life.measure(&format!("p{first}"));
                    let (mut next, mut is_new) = (first + 1, true);
                    while life.interrupted < each {
                        assert!(
                            life.kills < each * (LATE + 1),
                            "{} of {} kills hit",
                            life.interrupted,
                            life.kills
                        );
                        let answered = life.acknowledged.len();
                        life.round(&format!("p{next}"), is_new);
                        // Half of the time, an interrupted image is requested again.
                        is_new = life.acknowledged.len() > answered || life.random.below(2) == 0;
                        next += usize::from(is_new);
                    }
                    let backend = life.start();
                    for (name, digest) in &life.acknowledged {
                        life.verify(&backend, name, digest);
                    }
                    (life.kills, life.acknowledged.len(), life.phases)
                })
            })
            .collect();
        lives.into_iter().map(|life| life.join().expect("a server's thread")).collect()
    });
    let mut phases = Phases::new();
    for (phase, count) in ended.iter().flat_map(|life| &life.2) {
        *phases.entry(phase).or_default() += count;
    }
    let (kills, images) =
        ended.iter().fold((0, 0), |(kills, images), life| (kills + life.0, images + life.1));
    eprintln!("{kills} kills, {images} images acknowledged, none lost; builds were killed {phases:#?}");
}

/// What a killed process left is removed by the next one, including GC roots.
#[test]
fn the_next_process_removes_what_a_killed_one_left() {
    let data = TempDir::new().expect("a temporary directory");
    let set = package_set::small("tidy");
    let backend = Backend::serving_expression(&set).data(data.path()).start();
    backend.registry().built("greeting", "latest");
    backend.kill();
    for folder in ["storage/staging/dead", "gcroots/dead"] {
        let folder = data.path().join(folder);
        std::fs::create_dir_all(&folder).expect("a directory");
        std::fs::write(folder.join("lock"), "").expect("an unlocked lock file");
        std::fs::write(folder.join("half"), "half a blob").expect("written");
    }
    let backend = Backend::serving_expression(&set).data(data.path()).start();
    nothing_is_unfinished(data.path(), 1);
    backend.kill();
    let (clean, report) = fsck(data.path(), &["--repair"]);
    assert!(clean && problems(&report).is_empty(), "{report:#}");
}
