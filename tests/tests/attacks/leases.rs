//! Two servers and two collectors on one bucket. All of them are killed again and again.

use firn_tests::{
    backend::{Backend, command, firn},
    image::Image,
    package_set,
    random::Random,
    registry::ACCEPT,
    s3::{BUCKET, S3},
    wait::until,
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

/// How many times each server and each collector is killed.
const SERVER_KILLS: usize = 20;
const COLLECTOR_KILLS: usize = 30;
/// Longer than a build takes to store its layers, because it protects these.
const GRACE: &str = "10";
/// Blobs that nothing refers to.
const STRAYS: usize = 10;

/// What all processes share.
struct Site {
    s3: S3,
    storage: String,
    set: PathBuf,
    dir: TempDir,
    /// The images that clients were told exist: names and digests.
    acknowledged: Mutex<Vec<(String, String)>>,
    /// The terms of the lease that collections had.
    terms: Mutex<Vec<u64>>,
}

impl Site {
    fn new(packages: usize) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let seed = u64::try_from(time.as_nanos() % (1 << 60)).expect("small");
        let set = dir.path().join("set");
        package_set::write(&set, &package_set::many(packages, seed));
        let storage = format!("s3://{BUCKET}/shared");
        let (acknowledged, terms) = Default::default();
        Self { s3: S3::start(), storage, set, dir, acknowledged, terms }
    }

    /// A server that collects garbage by itself.
    fn server(&self, number: usize) -> Backend {
        let backend =
            Backend::with(&["--pkgs-path", self.set.to_str().expect("UTF-8"), "--storage", &self.storage])
                .args(&["--disk-budget", "10000", "--gc-grace", GRACE])
                .data(&self.dir.path().join(format!("server-{number}")));
        let environment = self.s3.environment();
        environment.into_iter().fold(backend, |backend, (name, value)| backend.env(name, value)).start()
    }

    /// Runs a command on the storage.
    fn look(&self, arguments: &[&str]) -> Option<Value> {
        let data = self.dir.path().join("looker").display().to_string();
        let all = [arguments, &["--json", "--storage", &self.storage, "--data", &data]].concat();
        let firn = self
            .s3
            .environment()
            .into_iter()
            .fold(command(&all), |firn, (name, value)| firn.env(name, value));
        let finished = firn.run();
        // Another process may have the lease.
        (finished.status == 0).then(|| serde_json::from_slice(&finished.stdout).expect("JSON"))
    }

    /// Records which terms a process had.
    fn note_terms(&self, log: &str) {
        let lines = log.lines().filter(|line| line.contains("collecting garbage"));
        let terms = lines
            .filter_map(|line| line.split_once("term=")?.1.split_whitespace().next()?.parse::<u64>().ok());
        self.terms.lock().expect("unbroken").extend(terms);
    }

    /// Checks that everything in an acknowledged image exists, and that the image is not built again.
    fn verify(&self, backend: &Backend, image: &(String, String)) {
        let (name, digest) = image;
        let registry = backend.registry();
        let pulled = Image::from_answer(&registry, name, &registry.manifest(name));
        assert_eq!(&pulled.digest, digest, "{name} is the image that was acknowledged");
        pulled.layers(&registry);
        assert_eq!(backend.logged(&format!("built image.name={name} ")), 0, "{name} was there");
    }

    /// Has a server build new images, and kills it meanwhile.
    fn kill_server(&self, number: usize, mut random: Random) {
        let mut takes = Duration::from_secs(1);
        for round in 0..SERVER_KILLS {
            let backend = self.server(number);
            let known = {
                let acknowledged = self.acknowledged.lock().expect("unbroken");
                (!acknowledged.is_empty()).then(|| acknowledged[random.below(acknowledged.len())].clone())
            };
            if let Some(image) = &known {
                self.verify(&backend, image);
            }
            // The servers share half of their packages, so that one finds what the other has started.
            let name = format!("p{}/p{}", round, SERVER_KILLS * (number + 1) + round);
            let (registry, path) = (backend.registry(), format!("/v2/{name}/manifests/latest"));
            let client = thread::spawn(move || {
                let started = Instant::now();
                registry.try_request("GET", &path, &ACCEPT).map(|answer| (answer, started.elapsed()))
            });
            thread::sleep(random.within(takes.mul_f64(1.5)));
            self.note_terms(&backend.kill());
            if let Ok((answer, took)) = client.join().expect("the client's thread") {
                takes = (takes + took) / 2;
                assert_eq!(answer.status, 200, "{name}: {}", answer.text());
                let digest = answer.header("docker-content-digest").expect("a digest").to_owned();
                self.acknowledged.lock().expect("unbroken").push((name, digest));
            }
        }
    }

    /// Runs garbage collections, and kills the collector meanwhile.
    fn kill_collector(&self, number: usize, mut random: Random) {
        let log = self.dir.path().join(format!("collector-{number}"));
        let (mut takes, mut kills) = (Duration::from_millis(500), 0);
        while kills < COLLECTOR_KILLS {
            let mut collector = Command::new(firn());
            collector
                .args(["gc", "--gc-grace", GRACE, "--storage", &self.storage, "--data"])
                .arg(self.dir.path().join(format!("data-{number}")))
                .env_clear()
                .envs(self.s3.environment())
                .env("FIRN_LOG", "debug")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(File::create(&log).expect("a log"));
            let started = Instant::now();
            let mut collector = collector.spawn().expect("firn starts");
            thread::sleep(random.within(takes.mul_f64(1.5)));
            match collector.try_wait().expect("its status") {
                // It has ended before it was killed.
                Some(_) => takes = (takes + started.elapsed()) / 2,
                None => {
                    collector.kill().expect("it runs");
                    collector.wait().expect("it is dead");
                    kills += 1;
                }
            }
            self.note_terms(&fs::read_to_string(&log).expect("a log"));
        }
    }
}

/// Writes a blob that nothing refers to, with an old time.
fn stray(objects: &Path, number: usize) -> PathBuf {
    let digest = firn_shared::Digest::of(format!("stray {number}").as_bytes());
    let path = objects.join("shared").join(firn_shared::link::object_key::blob_key(&digest));
    fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
    fs::write(&path, format!("stray {number}")).expect("the blob");
    let file = File::options().write(true).open(&path).expect("the blob");
    file.set_modified(SystemTime::now() - Duration::from_secs(24 * 3600)).expect("the time can be set");
    path
}

#[test]
fn two_servers_and_two_collectors_lose_nothing() {
    let site = Site::new(3 * SERVER_KILLS + 1);
    let random = Random::seeded("two_servers_and_two_collectors_lose_nothing");
    let strays: Vec<_> = (0..STRAYS).map(|number| stray(&site.s3.objects(), number)).collect();
    thread::scope(|scope| {
        for number in 0..2 {
            let (site, server, collector) = (&site, random.split(number), random.split(number + 2));
            scope.spawn(move || site.kill_server(number, server));
            scope.spawn(move || site.kill_collector(number, collector));
        }
    });
    // The lease of a dead collector expires, and others collect the garbage.
    until("garbage is collected", Duration::from_secs(120), || {
        site.look(&["gc", "--gc-grace", GRACE]);
        strays.iter().all(|stray| !stray.exists()).then_some(())
    });
    let backend = site.server(0);
    let acknowledged = site.acknowledged.lock().expect("unbroken").clone();
    acknowledged.iter().for_each(|image| site.verify(&backend, image));
    site.note_terms(&backend.kill());
    let report = site.look(&["fsck"]).expect("nothing is wrong");
    assert_eq!(report["findings"].as_array().map(Vec::len), Some(0), "{report:#}");

    let terms = site.terms.lock().expect("unbroken").clone();
    let distinct: BTreeSet<_> = terms.iter().collect();
    assert_eq!(distinct.len(), terms.len(), "two held one term: {terms:?}");
    assert!(!acknowledged.is_empty() && !terms.is_empty());
    eprintln!(
        "{} kills, {} images acknowledged, none lost; {} collections begun",
        2 * (SERVER_KILLS + COLLECTOR_KILLS),
        acknowledged.len(),
        terms.len()
    );
}
