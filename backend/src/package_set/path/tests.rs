use super::*;
use firn_tests::{program::Program, wait::eventually};
use proptest::prelude::*;
use std::fs::{self, File, FileTimes, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(3600);

/// Set where a test runs itself again with few watches.
const FEW_WATCHES: &str = "FIRN_TEST_FEW_WATCHES";

/// What the path holds, read from the beginning.
fn afresh(path: &Path) -> io::Result<Digest> {
    Content::read(path, &Files::new(), None).map(|content| content.digest)
}

fn is_watched(watched: &WatchedPath) -> bool {
    lock(&watched.state).known.as_ref().is_some_and(|known| matches!(known.belief, Belief::Silence(_)))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(future)
}

async fn ask(watched: &WatchedPath) -> Digest {
    watched.content(Certainty::Recent).await.expect("it can be read")
}

/// A set below a temporary directory, `set`, beside `outside`.
fn set() -> (TempDir, PathBuf) {
    let dir = TempDir::new().expect("a directory");
    let root = dir.path().canonicalize().expect("it is there").join("set");
    fs::create_dir_all(root.join("dir/deep")).expect("made");
    fs::create_dir_all(root.with_file_name("outside/dir")).expect("made");
    for file in ["set/default.nix", "set/dir/deep/file", "outside/file", "outside/dir/file"] {
        fs::write(dir.path().join(file), file).expect("written");
    }
    fs::set_permissions(root.join("default.nix"), Permissions::from_mode(0o644)).expect("set");
    (dir, root)
}

/// Does `prepare`, sees the set, does `edit`, and wants to see that at once.
fn sees(what: &str, prepare: impl FnOnce(&Path), edit: impl FnOnce(&Path)) {
    let (_dir, root) = set();
    prepare(&root);
    let watched = WatchedPath::with(root.clone(), LONG, LONG);
    block_on(async {
        let before = ask(&watched).await;
        assert!(is_watched(&watched), "{what}");
        assert!(watched.at_once(Certainty::Exact).is_some(), "{what}: it is not read again without need");
        edit(&root);
        let after = ask(&watched).await;
        assert_ne!(before, after, "{what}");
        assert_eq!(after, afresh(&root).expect("it is there"), "{what}");
        assert!(is_watched(&watched), "{what}");
    });
}

fn nothing(_: &Path) {}

fn write(path: impl AsRef<Path>, text: &str) {
    fs::write(path, text).expect("written");
}

/// Puts a file in the place of another, as editors do.
fn replace(path: &Path, text: &str) {
    let part = path.with_extension("part");
    write(&part, text);
    fs::rename(part, path).expect("renamed");
}

#[test]
fn changes_to_files_are_seen() {
    sees("another content", nothing, |set| write(set.join("default.nix"), "other"));
    sees("another content deep inside", nothing, |set| write(set.join("dir/deep/file"), "other"));
    sees("another file in its place", nothing, |set| replace(&set.join("default.nix"), "other"));
    sees("another content of the same size and time", nothing, |set| {
        let path = set.join("default.nix");
        let meta = path.metadata().expect("it is there");
        let size = usize::try_from(meta.len()).expect("it is small");
        write(&path, &"x".repeat(size));
        let times = FileTimes::new().set_modified(meta.modified().expect("a time"));
        File::options().write(true).open(&path).and_then(|file| file.set_times(times)).expect("set");
    });
    sees("another mode", nothing, |set| {
        fs::set_permissions(set.join("default.nix"), Permissions::from_mode(0o755)).expect("set");
    });
    sees("a file that is gone", nothing, |set| fs::remove_file(set.join("default.nix")).expect("removed"));
    sees("a file with another name outside", link_outside, |set| {
        write(set.with_file_name("outside/other"), "changed");
    });
}

fn link_outside(set: &Path) {
    fs::hard_link(set.join("default.nix"), set.with_file_name("outside/other")).expect("linked");
}

#[test]
fn changes_to_directories_are_seen() {
    sees("a new one, filled at once", nothing, |set| {
        fs::create_dir_all(set.join("new/a/b")).expect("made");
        write(set.join("new/a/b/file"), "x");
    });
    sees("one that is moved in", nothing, |set| {
        fs::rename(set.with_file_name("outside/dir"), set.join("dir/new")).expect("renamed");
    });
    sees("one that is moved out", nothing, |set| {
        fs::rename(set.join("dir/deep"), set.with_file_name("outside/deep")).expect("renamed");
    });
    sees("one that is gone", nothing, |set| fs::remove_dir_all(set.join("dir")).expect("removed"));
    sees("another in its place", nothing, |set| {
        fs::rename(set.join("dir"), set.with_file_name("outside/old")).expect("renamed");
        fs::create_dir_all(set.join("dir/deep")).expect("made");
        write(set.join("dir/deep/file"), "new");
    });
    sees("a new one, filled later", nothing, |set| fs::create_dir(set.join("new")).expect("made"));
}

#[test]
fn a_new_directory_is_watched_like_the_others() {
    let (_dir, root) = set();
    let watched = WatchedPath::with(root.clone(), LONG, LONG);
    block_on(async {
        ask(&watched).await;
        fs::create_dir_all(root.join("new/deep")).expect("made");
        let before = ask(&watched).await;
        write(root.join("new/deep/file"), "x");
        assert_ne!(ask(&watched).await, before);
        // And one that has left is watched no longer.
        fs::rename(root.join("new"), root.with_file_name("outside/new")).expect("renamed");
        ask(&watched).await;
        write(root.with_file_name("outside/new/deep/file"), "y");
        assert!(watched.at_once(Certainty::Exact).is_some());
    });
}

#[test]
fn the_path_itself_may_lead_elsewhere() {
    for through in ["now", "now/set"] {
        let (_dir, root) = set();
        let parent = root.parent().expect("it has one").to_owned();
        fs::create_dir_all(parent.join("second/set")).expect("made");
        let now = parent.join("now");
        let (first, second) = match through {
            "now" => (root.clone(), parent.join("second/set")),
            _ => (parent.clone(), parent.join("second")),
        };
        symlink(first, &now).expect("linked");
        let watched = WatchedPath::with(parent.join(through), LONG, LONG);
        block_on(async {
            let before = ask(&watched).await;
            assert!(is_watched(&watched));
            symlink(second, parent.join("next")).expect("linked");
            fs::rename(parent.join("next"), &now).expect("renamed");
            assert_ne!(ask(&watched).await, before, "{through}");
        });
    }
    // A directory above it, which is not watched.
    let (_dir, root) = set();
    let inner = root.join("dir");
    let watched = WatchedPath::with(inner.join("deep"), LONG, LONG);
    block_on(async {
        let before = ask(&watched).await;
        fs::rename(&inner, root.join("old")).expect("renamed");
        fs::create_dir_all(inner.join("deep")).expect("made");
        assert_ne!(ask(&watched).await, before);
        fs::remove_dir_all(&inner).expect("removed");
        assert!(watched.content(Certainty::Recent).await.is_err(), "it is gone");
    });
}

#[test]
fn what_links_lead_out_to_counts() {
    let linked = |to: &'static str| move |set: &Path| symlink(to, set.join("link")).expect("linked");
    let outside =
        |name: &'static str| move |set: &Path| write(set.with_file_name("outside").join(name), "new");
    sees("a file", linked("../outside/file"), outside("file"));
    sees("a file in its place", linked("../outside/file"), |set| {
        replace(&set.with_file_name("outside/file"), "new");
    });
    sees("a directory", linked("../outside"), outside("dir/file"));
    sees("a new file there", linked("../outside"), outside("dir/new"));
    sees("a file that was not there", linked("../outside/new"), outside("new"));
    sees(
        "a directory by its full path",
        |set| {
            symlink(set.with_file_name("outside"), set.join("dir/link")).expect("linked");
        },
        outside("dir/file"),
    );
    sees(
        "a link on the way",
        |set| {
            symlink("dir", set.with_file_name("outside/way")).expect("linked");
            symlink("../outside/way/file", set.join("link")).expect("linked");
        },
        |set| {
            let outside = set.with_file_name("outside");
            fs::create_dir(outside.join("other")).expect("made");
            write(outside.join("other/file"), "new");
            symlink("other", outside.join("next")).expect("linked");
            fs::rename(outside.join("next"), outside.join("way")).expect("renamed");
        },
    );
    sees(
        "through a name in the set",
        |set| {
            symlink("../outside", set.join("out")).expect("linked");
            symlink("out/dir/file", set.join("link")).expect("linked");
        },
        outside("dir/file"),
    );
    sees(
        "a loop",
        |set| {
            symlink("..", set.join("up")).expect("linked");
            symlink("../set", set.with_file_name("outside/back")).expect("linked");
        },
        outside("dir/file"),
    );
    sees("a single file as the set", nothing, |set| replace(&set.join("default.nix"), "new"));
}

#[test]
fn a_single_file_may_be_the_set() {
    let (_dir, root) = set();
    let file = root.join("default.nix");
    let watched = WatchedPath::with(file.clone(), LONG, LONG);
    block_on(async {
        for round in 0..3 {
            let before = ask(&watched).await;
            assert!(is_watched(&watched));
            write(root.join("another"), "x");
            assert_eq!(ask(&watched).await, before);
            if round % 2 == 0 {
                write(&file, "new")
            } else {
                replace(&file, "newer")
            }
            assert_ne!(ask(&watched).await, before);
        }
    });
}

#[test]
fn git_s_own_files_do_not_count() {
    let (_dir, root) = set();
    let watched = WatchedPath::with(root.clone(), LONG, LONG);
    block_on(async {
        let before = ask(&watched).await;
        fs::create_dir(root.join(".git")).expect("made");
        write(root.join(".git/index"), "x");
        assert!(watched.at_once(Certainty::Exact).is_some());
        assert_eq!(ask(&watched).await, before);
    });
}

#[test]
fn more_may_happen_than_the_kernel_remembers() {
    let (_dir, root) = set();
    let watched = WatchedPath::with(root.clone(), LONG, LONG);
    let most: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .expect("Linux")
        .trim()
        .parse()
        .expect("a number");
    block_on(async {
        let before = ask(&watched).await;
        let files = ["a", "b"].map(|name| File::create(root.join(name)).expect("made"));
        // Alternating, because equal events in a row are one.
        for i in 0..=most {
            (&files[i % 2]).write_all(b"x").expect("written");
        }
        let after = ask(&watched).await;
        assert_ne!(after, before);
        assert_eq!(after, afresh(&root).expect("it is there"));
        write(root.join("default.nix"), "new");
        assert_ne!(ask(&watched).await, after, "it is watched again");
    });
}

#[test]
fn what_is_no_local_file_system_is_read_anew() {
    // Its files tell nobody when they change.
    let path = PathBuf::from("/proc/sys/fs/inotify");
    block_on(async {
        let watched = WatchedPath::with(path.clone(), LONG, LONG);
        ask(&watched).await;
        let state = lock(&watched.state);
        assert!(matches!(state.known.as_ref().expect("it was read").belief, Belief::Interval));
        assert!(state.watch.is_none() && state.unfit.is_some());
    });
    is_read_anew(&path, |_| {});
}

/// Looks at a set that cannot be watched, before and after an edit.
fn is_read_anew(path: &Path, edit: impl FnOnce(&Path)) {
    let watched = WatchedPath::with(path.to_owned(), LONG, LONG);
    let hasty = WatchedPath::with(path.to_owned(), Duration::ZERO, LONG);
    block_on(async {
        let before = ask(&watched).await;
        assert_eq!(ask(&hasty).await, before);
        assert!(watched.at_once(Certainty::Recent).is_some(), "it is believed for a while");
        assert!(watched.at_once(Certainty::Exact).is_none(), "but not where it matters");
        assert!(hasty.at_once(Certainty::Recent).is_none());
        edit(path);
        let now = afresh(path).expect("it is there");
        assert_eq!(ask(&watched).await, before);
        assert_eq!(watched.content(Certainty::Exact).await.expect("it can be read"), now);
        assert_eq!(ask(&hasty).await, now);
    });
}

/// In a namespace of users that has three watches.
#[test]
fn with_few_watches_it_is_read_anew() {
    if std::env::var_os(FEW_WATCHES).is_some() {
        let (_dir, root) = set();
        for name in ["a", "b", "c"] {
            fs::create_dir(root.join(name)).expect("made");
        }
        return is_read_anew(&root, |set| write(set.join("default.nix"), "other"));
    }
    let test = std::env::current_exe().expect("a test has a file");
    let script = "echo 3 >/proc/sys/user/max_inotify_watches && exec \"$0\" \"$@\"";
    let name = "package_set::path::tests::with_few_watches_it_is_read_anew";
    let said = Program::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", script])
        .args([test.to_str().expect("UTF-8"), "--exact", name, "--nocapture"])
        .env(FEW_WATCHES, "1")
        .run()
        .succeeded();
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
fn changes_while_it_is_read_are_not_missed() {
    let (_dir, root) = set();
    for i in 0..300 {
        fs::create_dir(root.join(format!("dir/{i}"))).expect("made");
        write(root.join(format!("dir/{i}/file")), "x");
    }
    let stopped = AtomicBool::new(false);
    let watched = WatchedPath::with(root.clone(), LONG, LONG);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // So many that a user may watch them all, however long the machine takes.
            for i in 0..3000 {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // Seen by a walk in the beginning, and then at the end.
                write(root.join("default.nix"), &i.to_string());
                let new = root.join(format!("dir/{}/new{i}", i % 300));
                fs::create_dir_all(new.join("deep")).expect("made");
                write(new.join("deep/file"), &i.to_string());
            }
        });
        block_on(async {
            for _ in 0..20 {
                ask(&watched).await;
            }
            stopped.store(true, Ordering::Relaxed);
        });
    });
    block_on(async {
        assert_eq!(ask(&watched).await, afresh(&root).expect("it is there"));
        assert!(is_watched(&watched));
    });
}

#[test]
fn two_changes_in_one_tick_of_the_clock_are_two() {
    // A network file system, or one without watches: only times tell.
    let (_dir, root) = set();
    let watched = WatchedPath::with(root.clone(), Duration::ZERO, LONG);
    lock(&watched.state).unfit = Some(Instant::now());
    block_on(async {
        for i in 0..2000 {
            write(root.join("default.nix"), &format!("{i:04}"));
            let seen = ask(&watched).await;
            assert_eq!(seen, afresh(&root).expect("it is there"), "{i}");
        }
        assert!(!is_watched(&watched));
    });
    let changed = root.join("default.nix").metadata().and_then(|meta| meta.modified()).expect("a time");
    let remembered = |after: Duration| {
        let content = Content::read_at(changed + after, &root, &Files::new(), None).expect("it is there");
        content.files.contains_key(&root.join("default.nix"))
    };
    assert!(!remembered(Duration::from_secs(1)), "the times of what has just changed tell nothing");
    assert!(remembered(Duration::from_secs(4)));
}

#[test]
fn what_the_kernel_does_not_tell_is_found() {
    let (_dir, root) = set();
    block_on(async {
        let watched = WatchedPath::with(root.clone(), LONG, Duration::ZERO);
        let before = ask(&watched).await;
        // The new name is told to the directory that it is in, and what is written by it too.
        link_outside(&root);
        write(root.with_file_name("outside/other"), "changed");
        let after = eventually("it is seen", async || {
            let now = ask(&watched).await;
            (now != before).then_some(now)
        });
        assert_eq!(after.await, afresh(&root).expect("it is there"));
    });
}

#[test]
fn those_who_wait_for_it_share_what_is_read() {
    let (_dir, root) = set();
    let watched = WatchedPath::with(root.clone(), LONG, LONG);
    block_on(async {
        let turn = watched.reading.lock().await;
        let mut two = std::pin::pin!(futures::future::join(ask(&watched), ask(&watched)));
        assert!(futures::poll!(&mut two).is_pending());
        drop(turn);
        two.await;
        // It changed meanwhile, so that nobody else believes it.
        let began = {
            let mut state = lock(&watched.state);
            let known = state.known.as_mut().expect("it was read");
            known.belief = Belief::Never;
            known.began
        };
        ask(&watched).await;
        assert!(lock(&watched.state).known.as_ref().is_some_and(|known| known.began > began));
    });
}

#[test]
fn requests_look_at_it_at_the_same_time() {
    let (_dir, root) = set();
    let watched = WatchedPath::with(root.clone(), LONG, LONG);
    block_on(async {
        ask(&watched).await;
        let other = watched.state.read().expect("nobody panics");
        assert!(watched.at_once(Certainty::Exact).is_some());
        // An event that does not count is taken out of the queue by a request that is alone.
        fs::create_dir(root.join(".git")).expect("made");
        assert!(watched.at_once(Certainty::Exact).is_none());
        drop(other);
        assert!(watched.at_once(Certainty::Exact).is_some());
        let other = watched.state.read().expect("nobody panics");
        assert!(watched.at_once(Certainty::Exact).is_some(), "the queue is empty again");
        write(root.join("default.nix"), "other");
        assert!(watched.at_once(Certainty::Exact).is_none());
        drop(other);
        assert!(watched.at_once(Certainty::Exact).is_none(), "a change counts until it is read");
        assert!(watched.at_once(Certainty::Exact).is_none());
    });
}

#[test]
fn digests_stay_what_they_were() {
    let dir = TempDir::new().expect("a directory");
    let root = dir.path();
    fs::create_dir_all(root.join("dir/empty")).expect("made");
    fs::create_dir(root.join(".git")).expect("made");
    for (name, text) in
        [("default.nix", "{ system, ... }: { }\n"), ("dir/run", "x"), ("dir/none", ""), (".git/x", "y\n")]
    {
        write(root.join(name), text);
    }
    fs::set_permissions(root.join("dir/run"), Permissions::from_mode(0o755)).expect("set");
    symlink("../default.nix", root.join("dir/link")).expect("linked");
    symlink("nowhere", root.join("dangling")).expect("linked");
    let digest = afresh(root).expect("it is there").hex();
    // As images are known by it since the first version.
    assert_eq!(digest, "a9cdfec20587cc6a62ca0e3ee69f5ff8cb3be6ecced0b760d855e8702bb383f9");
    // What is in the Nix store, or is no file, is a name only. Nor does it matter by which way a link stays inside.
    for (name, target) in [("store", "/nix/store"), ("devices", "/dev"), ("null", "/dev/null")] {
        symlink(target, root.join(name)).expect("linked");
        let content = Content::read(root, &Files::new(), None).expect("it is there");
        assert!(content.files.keys().all(|file| file.starts_with(root)) && content.too_large.is_empty());
    }
}

#[test]
fn what_is_too_large_outside_is_a_name() {
    let (_dir, root) = set();
    symlink("../outside", root.join("link")).expect("linked");
    let read = || Content::read(&root, &Files::new(), None).expect("it is there");
    let small = read();
    assert!(small.too_large.is_empty());
    File::create(root.with_file_name("outside/large")).and_then(|file| file.set_len(2 << 30)).expect("made");
    let large = read();
    assert_eq!(large.too_large, [root.with_file_name("outside")]);
    write(root.with_file_name("outside/file"), "other");
    assert_eq!(read().digest, large.digest);
    assert_ne!(small.digest, large.digest);
}

/// What somebody does to a set.
#[derive(Debug, Clone)]
enum Edit {
    Write(usize, u8),
    /// In place, a byte, with the times that it had.
    Patch(usize),
    Replace(usize, u8),
    Remove(usize),
    MakeDir(usize),
    Rename(usize, usize),
    Link(usize, usize),
    HardLink(usize, usize),
    Mode(usize, bool),
}

/// Where: in the set, and beside it.
const PLACES: [&str; 9] = [
    "set/a",
    "set/b",
    "set/dir/a",
    "set/dir/b",
    "set/dir/deep/a",
    "set/dir",
    "outside/a",
    "outside/dir",
    "outside/dir/a",
];

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let place = || 0..PLACES.len();
    let edit = prop_oneof![
        (place(), 0..3u8).prop_map(|(at, text)| Edit::Write(at, text)),
        place().prop_map(Edit::Patch),
        (place(), 0..3u8).prop_map(|(at, text)| Edit::Replace(at, text)),
        place().prop_map(Edit::Remove),
        place().prop_map(Edit::MakeDir),
        (place(), place()).prop_map(|(from, to)| Edit::Rename(from, to)),
        (place(), place()).prop_map(|(at, to)| Edit::Link(at, to)),
        (place(), place()).prop_map(|(at, to)| Edit::HardLink(at, to)),
        (place(), any::<bool>()).prop_map(|(at, executable)| Edit::Mode(at, executable)),
    ];
    prop::collection::vec(edit, 1..12)
}

/// Does it as far as it can be done.
fn apply(base: &Path, edit: &Edit) -> io::Result<()> {
    let at = |place: &usize| base.join(PLACES[*place]);
    match edit {
        Edit::Write(place, text) => fs::write(at(place), [*text; 9]),
        Edit::Patch(place) => {
            let mut file = File::options().read(true).write(true).open(at(place))?;
            let modified = file.metadata()?.modified()?;
            let mut byte = [0];
            file.read_exact(&mut byte)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&[byte[0] ^ 1])?;
            file.set_times(FileTimes::new().set_modified(modified))
        }
        Edit::Replace(place, text) => {
            let part = base.join("part");
            fs::write(&part, [*text; 9])?;
            fs::rename(part, at(place))
        }
        Edit::Remove(place) => fs::remove_file(at(place)).or_else(|_| fs::remove_dir_all(at(place))),
        Edit::MakeDir(place) => fs::create_dir_all(at(place).join("new/deep")),
        Edit::Rename(from, to) => fs::rename(at(from), at(to)),
        Edit::Link(place, to) => symlink(at(to), at(place)),
        Edit::HardLink(place, to) => fs::hard_link(at(place), at(to)),
        Edit::Mode(place, executable) => {
            let mode = if *executable { 0o755 } else { 0o644 };
            let path = at(place);
            let is_file = path.symlink_metadata()?.is_file();
            if is_file { fs::set_permissions(path, Permissions::from_mode(mode)) } else { Ok(()) }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// However a set is edited, what is seen is what is there. One edit is not told, and is left out: to give a file of the
    /// set a name outside, and then to write by that name.
    #[test]
    fn whatever_is_edited_is_seen(edits in edits()) {
        let (dir, root) = set();
        let watched = WatchedPath::with(root.clone(), LONG, LONG);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            ask(&watched).await;
            for edit in &edits {
                let is_untold = matches!(edit, Edit::HardLink(from, to)
                    if PLACES[*from].starts_with("set/") != PLACES[*to].starts_with("set/"));
                if is_untold {
                    continue;
                }
                // Some are impossible after others, and change nothing or a part.
                let _ = apply(dir.path(), edit);
                match afresh(&root) {
                    Ok(digest) => prop_assert_eq!(ask(&watched).await, digest, "{:?}", edit),
                    Err(_) => prop_assert!(watched.content(Certainty::Recent).await.is_err(), "{:?}", edit),
                }
            }
            Ok(())
        })?;
    }
}
