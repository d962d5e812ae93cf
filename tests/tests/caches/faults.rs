//! Caches that are slow, break off, lie, or answer what they should not: another cache is tried, else the client is told
//! to come again. Nothing of it is ever kept.

use crate::{assert_right, backend};
use firn_tests::{
    backend::Backend,
    binary_cache::{Asked, Cache, CacheDir, Compression, FaultyCache, Reaction},
    image::Image,
    nix, package_set,
    program::{Program, find},
    registry::Answer,
    wait::{LONG, until},
};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A fault, by name, and the packages that it is tried with: each is a store path of its own, without dependencies.
struct Fault {
    name: &'static str,
    package: &'static str,
    reaction: Box<dyn Fn(&Asked) -> Reaction + Send>,
}

/// The most memory that a server may use that was sent a bomb (MB).
const BOMB_LIMIT: u64 = 400;

fn fault(
    name: &'static str,
    package: &'static str,
    reaction: impl Fn(&Asked) -> Reaction + Send + 'static,
) -> Fault {
    Fault { name, package, reaction: Box::new(reaction) }
}

/// A reaction to requests for contents. The rest is as it should be.
fn nars(reaction: Reaction) -> impl Fn(&Asked) -> Reaction + Send {
    move |asked| if asked.is_nar() { reaction.clone() } else { Reaction::Pass }
}

/// A reaction to requests for descriptions of paths.
fn narinfos(reaction: Reaction) -> impl Fn(&Asked) -> Reaction + Send {
    move |asked| if asked.is_narinfo() { reaction.clone() } else { Reaction::Pass }
}

/// Answers with the description of each path after changing its text.
fn lie<C: Fn(String) -> String + Send>(
    dir: &CacheDir,
    change: C,
) -> impl Fn(&Asked) -> Reaction + Send + use<C> {
    let root = dir.path().to_owned();
    move |asked| {
        if !asked.is_narinfo() {
            return Reaction::Pass;
        }
        match fs::read_to_string(root.join(asked.path.trim_start_matches('/'))) {
            Ok(text) => Reaction::Content(change(text).into_bytes()),
            Err(_) => Reaction::Status(404),
        }
    }
}

/// Changes the value of a field.
fn set(text: &str, field: &str, change: impl Fn(&str) -> String) -> String {
    let prefix = format!("{field}: ");
    let line = |line: &str| match line.strip_prefix(&prefix) {
        Some(value) => format!("{prefix}{}\n", change(value)),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// Answers with each path's contents after changing them. They are compressed as before.
fn alter<C: Fn(&mut Vec<u8>) + Send>(
    dir: &CacheDir,
    change: C,
) -> impl Fn(&Asked) -> Reaction + Send + use<C> {
    let root = dir.path().to_owned();
    move |asked| {
        if !asked.is_nar() {
            return Reaction::Pass;
        }
        let file = fs::read(root.join(asked.path.trim_start_matches('/'))).expect("the cache has it");
        let mut nar = through("zstd", &["-d", "-c"], &file);
        change(&mut nar);
        Reaction::Content(compressed("zstd", &nar))
    }
}

/// Compresses with a program of this name.
fn compressed(with: &str, content: &[u8]) -> Vec<u8> {
    through(with, &["-c"], content)
}

/// What a program makes of this content.
fn through(program: &str, arguments: &[&str], content: &[u8]) -> Vec<u8> {
    let mut command = Command::new(find(program));
    let mut child =
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut input = child.stdin.take().expect("piped");
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(content).expect("it reads"));
        child.wait_with_output().expect("it ends").stdout
    })
}

/// The beginning of the archive of a file that claims to have a hundred gigabytes.
fn start_of_a_large_file() -> Vec<u8> {
    let mut nar = Vec::new();
    let mut word = |word: &[u8]| {
        nar.extend((word.len() as u64).to_le_bytes());
        nar.extend(word);
        nar.resize(nar.len().next_multiple_of(8), 0);
    };
    for text in ["nix-archive-1", "(", "type", "regular", "contents"] {
        word(text.as_bytes());
    }
    nar.extend(100_000_000_000_u64.to_le_bytes());
    nar
}

/// The beginning of such an archive, a gigabyte of it, compressed by a program to a few kilobytes.
fn bomb(with: &str) -> Vec<u8> {
    let script = format!("{{ cat; head -c {} /dev/zero; }} | {with} -1 -c", 1 << 30);
    through("bash", &["-c", &script], &start_of_a_large_file())
}

/// All objects in a backend's storage that have contents: layers, configs, manifests.
fn blobs(data: &Path) -> BTreeSet<String> {
    let found = Program::new("find").args([data.join("storage/blobs")]).args(["-type", "f"]).run();
    found.text().lines().map(str::to_owned).collect()
}

fn faults(dir: &CacheDir) -> Vec<Fault> {
    let other = fs::read(dir.nar(&package("conflict-a"))).expect("another path's contents");
    let [one, two] = [start_of_a_large_file(), vec![0; 64 << 20]].map(|content| compressed("zstd", &content));
    let huge = bomb("zstd");
    vec![
        fault("descriptions: 500", "1password", narinfos(Reaction::Status(500))),
        fault("descriptions: 429", "nested.camelcase", narinfos(Reaction::Status(429))),
        fault(
            "descriptions: a page of HTML",
            "nested.deeper.evendeeper",
            narinfos(Reaction::Content(b"<html>".into())),
        ),
        fault("descriptions: cut", "empty-directory", narinfos(Reaction::Cut(100))),
        fault(
            "descriptions: without end",
            "hardlink",
            narinfos(Reaction::Endless(b"StorePath: ".into(), vec![b'a'; 1 << 16])),
        ),
        fault(
            "descriptions: of another path",
            "long-names",
            lie(dir, |text| set(&text, "StorePath", |path| path.replace(|c: char| c.is_ascii_digit(), "0"))),
        ),
        fault(
            "descriptions: another size",
            "unusual-names",
            lie(dir, |text| {
                set(&text, "NarSize", |size| (size.parse::<u64>().expect("a number") + 8).to_string())
            }),
        ),
        fault(
            "descriptions: more references",
            "odd-links",
            lie(dir, |text| set(&text, "References", |_| "00000000000000000000000000000000-evil".to_owned())),
        ),
        fault(
            "descriptions: another signature",
            "file-output",
            lie(dir, |text| {
                set(&text, "Sig", |signature| {
                    let (name, value) = signature.split_once(':').expect("NAME:SIGNATURE");
                    let flipped = if value.starts_with('A') { "B" } else { "A" };
                    format!("{name}:{flipped}{}", &value[1..])
                })
            }),
        ),
        fault(
            "descriptions: no signature",
            "image-paths",
            lie(dir, |text| {
                text.lines().filter(|line| !line.starts_with("Sig")).map(|line| format!("{line}\n")).collect()
            }),
        ),
        fault("contents: 404", "conflict-b", nars(Reaction::Status(404))),
        fault("contents: 403", "conflict-file", nars(Reaction::Status(403))),
        fault("contents: 500", "conflict-directory", nars(Reaction::Status(500))),
        fault("contents: 429", "conflict-link", nars(Reaction::Status(429))),
        fault("contents: cut at once", "helloworld", nars(Reaction::Cut(0))),
        fault("contents: always cut", "hardlink", nars(Reaction::Cut(10))),
        fault("contents: of another path", "1password", nars(Reaction::Content(other))),
        fault(
            "contents: not compressed",
            "nested.camelcase",
            nars(Reaction::Content(b"nix-archive-1".into())),
        ),
        fault("contents: something after the end", "empty-directory", alter(dir, |nar| nar.extend([0; 8]))),
        fault("contents: no end", "nested.deeper.evendeeper", alter(dir, |nar| nar.truncate(nar.len() - 16))),
        fault(
            "contents: another bit",
            "file-output",
            alter(dir, |nar| {
                let text = nar.windows(6).position(|word| word == b"a file").unwrap_or(nar.len() / 2);
                nar[text] ^= 1;
            }),
        ),
        fault("contents: a redirect to itself", "long-names", |asked: &Asked| {
            if asked.is_nar() { Reaction::Redirect(asked.path.clone()) } else { Reaction::Pass }
        }),
        fault("contents: 1 GB of zeros", "odd-links", nars(Reaction::Content(huge))),
        fault("contents: zeros without end", "unusual-names", nars(Reaction::Endless(one, two))),
    ]
}

/// The output of a package.
fn package(name: &str) -> String {
    nix::outputs(package_set::bundled(), &[name])[0][0].clone()
}

/// The most memory that a server has used so far (MB).
fn peak_memory(backend: &Backend) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", backend.process())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
}

/// The client is told to come again, and that a cache has failed, but not what only the operator needs to know.
fn assert_unavailable(answer: &Answer, what: &str) {
    let (code, message) = answer.error();
    assert_eq!((answer.status, code.as_str()), (503, "UNAVAILABLE"), "{what}: {message}");
    assert!(answer.header("retry-after").is_some(), "{what}: {message}");
    assert!(message.contains("binary cache"), "{what}: {message}");
    assert!(!message.contains("/nix/store/") && !message.contains(".narinfo"), "{what}: {message}");
    assert!(message.len() < 600 && !message.contains("<html>"), "{what}: {message}");
}

#[test]
fn what_is_wrong_is_neither_served_nor_kept() {
    let dir = CacheDir::bundled(Compression::Zstd);
    let faulty = FaultyCache::before(Cache::serve(&dir));
    for fault in faults(&dir) {
        let data = TempDir::new().expect("a temporary directory");
        let backend = backend(&[&faulty.url()], &[faulty.key()]).data(data.path()).start();
        faulty.behave(fault.reaction);
        let answer = backend.registry().settled(fault.package, "latest");
        println!("{}: {}", fault.name, answer.text());
        assert_unavailable(&answer, fault.name);
        assert_eq!(blobs(data.path()), BTreeSet::new(), "{}: nothing is kept", fault.name);
        assert!(peak_memory(&backend) < BOMB_LIMIT, "{}: {} MB", fault.name, peak_memory(&backend));

        // When the cache is well again, so is the image. A server that has just started does not know that the cache failed.
        faulty.behave(|_| Reaction::Pass);
        drop(backend);
        let backend = self::backend(&[&faulty.url()], &[faulty.key()]).data(data.path()).start();
        assert_right(&backend, fault.package);
    }
}

/// A cache that fails is left alone for a while, and then asked again.
#[test]
fn a_cache_that_recovers_is_used_again() {
    let faulty = FaultyCache::before(Cache::bundled(Compression::Zstd));
    let backend = backend(&[&faulty.url()], &[faulty.key()]).start();
    faulty.behave(|_| Reaction::Status(500));
    assert_unavailable(&backend.registry().settled("hello", "latest"), "500");
    faulty.behave(|_| Reaction::Pass);
    until("the cache is asked again", LONG, || {
        (backend.registry().settled("hello", "latest").status == 200).then_some(())
    });
}

#[test]
fn another_cache_makes_up_for_a_bad_one() {
    let dir = CacheDir::bundled(Compression::Zstd);
    let faulty = FaultyCache::before(Cache::serve(&dir));
    let good = Cache::bundled(Compression::Xz);
    for fault in faults(&dir) {
        // The bad one is asked first.
        let caches = [format!("{}?priority=1", faulty.url()), format!("{}?priority=2", good.url())];
        let backend = backend(&caches.each_ref().map(String::as_str), &[faulty.key(), good.key()]).start();
        faulty.behave(fault.reaction);
        assert_right(&backend, fault.package);
        assert!(!faulty.asked().is_empty(), "{}: the bad cache was asked", fault.name);
    }
}

/// xz needs more memory than zstd to be decompressed, and compresses zeros even better.
#[test]
fn xz_may_become_large_too() {
    let faulty = FaultyCache::before(Cache::bundled(Compression::Xz));
    let backend = backend(&[&faulty.url()], &[faulty.key()]).start();
    faulty.behave(nars(Reaction::Content(bomb("xz"))));
    assert_unavailable(&backend.registry().settled("hello", "latest"), "a bomb");
    assert!(peak_memory(&backend) < BOMB_LIMIT, "{} MB", peak_memory(&backend));
}

/// A cache that stops in the middle is left, however it does that.
#[test]
fn a_cache_that_stalls_is_left() {
    let faulty = FaultyCache::before(Cache::bundled(Compression::Zstd));
    let good = Cache::bundled(Compression::Xz);
    let caches = [format!("{}?priority=1", faulty.url()), format!("{}?priority=2", good.url())];
    let backend = backend(&caches.each_ref().map(String::as_str), &[faulty.key(), good.key()]).start();
    faulty.behave(nars(Reaction::Stall(50)));
    assert_right(&backend, "odd-links");
    faulty.behave(narinfos(Reaction::Stall(20)));
    assert_right(&backend, "hello");
}

/// The rest is asked for, not the whole again.
#[test]
fn a_download_that_was_cut_is_resumed() {
    let dir = CacheDir::bundled(Compression::Zstd);
    let faulty = FaultyCache::before(Cache::serve(&dir));
    let backend = backend(&[&faulty.url()], &[faulty.key()]).start();
    let size = fs::metadata(dir.nar(&package("incompressible"))).expect("its file").len();
    // Three cuts: at a third of the whole, then twice at 10 MB more.
    let third = usize::try_from(size / 3).expect("it is not so large");
    faulty.behave(move |asked| match asked.before {
        0 if asked.is_nar() => Reaction::Cut(third),
        1 | 2 if asked.is_nar() => Reaction::Cut(10_000_000),
        _ => Reaction::Pass,
    });
    assert_right(&backend, "incompressible");
    let asked = faulty.asked();
    let large = format!("/{}", dir.field(&package("incompressible"), "URL"));
    let ranges: Vec<_> = asked.iter().filter(|asked| asked.path == large).map(|asked| &asked.range).collect();
    assert!(
        ranges.len() == 4 && ranges[0].is_none() && ranges[1..].iter().all(|range| range.is_some()),
        "{ranges:?}"
    );
    assert!(faulty.sent() < size + size / 10, "{} bytes sent for {size}", faulty.sent());
}

/// As content delivery networks do.
#[test]
fn redirects_are_followed() {
    let elsewhere = Cache::bundled(Compression::Zstd);
    let faulty = FaultyCache::before(Cache::bundled(Compression::Zstd));
    let url = elsewhere.url();
    faulty.behave(move |asked| {
        if asked.is_nar() { Reaction::Redirect(format!("{url}{}", asked.path)) } else { Reaction::Pass }
    });
    let backend = backend(&[&faulty.url()], &[faulty.key()]).start();
    Image::pull(&backend.registry(), "hello").layers(&backend.registry());
    assert!(elsewhere.nars().len() >= 4, "{:?}", elsewhere.requests());
    assert_eq!(faulty.cache().nars(), []);
}
