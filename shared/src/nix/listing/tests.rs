use super::*;
use proptest::prelude::*;

fn name(text: &str) -> FileName {
    text.parse().expect("a file name")
}

/// Builds a listing from lines such as `bin/git`, `share/empty/`, `sbin -> bin`, `lib -> b:lib/x` (a link into another
/// store path) or `away -> ?` (a dangling link).
///
/// The target of a link must be in an earlier line. Bytes can be percent-encoded.
#[derive(Debug, Default)]
pub(crate) struct Sketch {
    directories: Vec<Directory>,
    targets: Vec<Target>,
    roots: Vec<Root>,
}

impl Sketch {
    /// Adds a store path with these files. Links can lead into the store paths that were added before.
    pub(crate) fn path(mut self, path: &StorePath, lines: &str) -> Self {
        let root = self.directory();
        self.roots.push(Root { path: path.clone(), node: Node::Directory(root), propagated: vec![] });
        for line in lines.split('\n').flat_map(|line| line.split("; ")) {
            let line = line.trim();
            match line.split_once(" -> ") {
                None if line.is_empty() => {}
                None => self.add(root, line, Node::File),
                Some((line, "?")) => self.add(root, line, Node::Dangling),
                Some((line, target)) => {
                    let node = self.link(path, target);
                    self.add(root, line, node);
                }
            }
        }
        self
    }

    /// Makes the store path itself a link.
    pub(crate) fn link_to(mut self, path: &StorePath, target: &str) -> Self {
        let node = self.link(path, target);
        self.roots.push(Root { path: path.clone(), node, propagated: vec![] });
        self
    }

    /// The listing of a package whose only output is the last store path. The output propagates the paths in
    /// `propagated`.
    pub(crate) fn listing(mut self, propagated: &[&StorePath]) -> Listing {
        let mut root = self.roots.pop().expect("a store path");
        root.propagated = propagated.iter().map(|path| (*path).clone()).collect();
        self.roots.retain(|root| propagated.contains(&&root.path));
        self.roots.insert(0, root);
        Listing::new(self.directories, self.targets, self.roots).expect("a listing")
    }

    fn directory(&mut self) -> u32 {
        self.directories.push(Directory::new());
        u32::try_from(self.directories.len() - 1).expect("few")
    }

    fn add(&mut self, mut at: u32, path: &str, node: Node) {
        let (parents, last) = path.rsplit_once('/').unwrap_or(("", path));
        for parent in parents.split('/').filter(|parent| !parent.is_empty()) {
            at = match self.directories[at as usize].get(&name(parent)) {
                Some(Node::Directory(index)) => *index,
                Some(other) => panic!("{path}: {other:?}"),
                None => {
                    let new = self.directory();
                    self.directories[at as usize].insert(name(parent), Node::Directory(new));
                    new
                }
            };
        }
        if !last.is_empty() {
            self.directories[at as usize].insert(name(last), node);
        }
    }

    fn link(&mut self, own: &StorePath, target: &str) -> Node {
        let (path, below) = match target.split_once(':') {
            Some((letter, below)) => {
                let root = self.roots.iter().find(|root| root.path.name() == letter);
                (root.expect("a store path before").path.clone(), below)
            }
            None => (own.clone(), target),
        };
        let root = self.roots.iter().find(|root| root.path == path).expect("a store path before");
        let Node::Directory(mut directory) = root.node else { panic!("{target}: not a directory") };
        let below: Vec<_> = below.split('/').filter(|name| !name.is_empty()).map(name).collect();
        for name in &below {
            match self.directories[directory as usize].get(name) {
                Some(Node::Directory(index)) => directory = *index,
                other => panic!("{target}: {other:?}"),
            }
        }
        self.targets.push(Target { directory, path, below });
        Node::Link(u32::try_from(self.targets.len() - 1).expect("few"))
    }
}

fn path(letter: char) -> StorePath {
    format!("/nix/store/{}-{letter}", letter.to_string().repeat(32)).parse().expect("a store path")
}

#[test]
fn serialises_compactly() {
    let listing = Sketch::default()
        .path(&path('b'), "lib/x")
        .path(&path('a'), "bin/git; é; sbin -> bin; lib -> b:lib; away -> ?")
        .listing(&[]);
    let json = serde_json::to_string(&listing).expect("listings serialise");
    assert_eq!(
        json,
        concat!(
            r#"{"directories":[{"lib":2},{"x":0},{"away":-1,"bin":4,"lib":-3,"sbin":-2,"%c3%a9":0},{"git":0}],"#,
            r#""targets":[{"directory":3,"path":"/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-a","below":["bin"]},"#,
            r#"{"directory":1,"path":"/nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-b","below":["lib"]}],"#,
            r#""roots":[{"path":"/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-a","node":3,"propagated":[]}]}"#
        )
    );
    assert_eq!(serde_json::from_str::<Listing>(&json).expect("and parse"), listing);
}

#[test]
fn refuses_indices_that_lead_nowhere() {
    let json = |directories: &str, targets: &str, root: &str| {
        format!(
            r#"{{"directories":[{directories}],"targets":[{targets}],"roots":[{{"path":"{}","node":{root},"propagated":[]}}]}}"#,
            path('a')
        )
    };
    let target = format!(r#"{{"directory":0,"path":"{}","below":[]}}"#, path('a'));
    let reads = |json: &str| serde_json::from_str::<Listing>(json).is_ok();
    assert!(reads(&json(r#"{"a":1}"#, "", "1")), "a loop is sound");
    assert!(reads(&json(r#"{"a":-2}"#, &target, "-2")));
    for bad in [
        json(r#"{"a":2}"#, "", "1"),
        json(r#"{"a":-3}"#, &target, "1"),
        json("{}", "", "2"),
        json("{}", &target.replace(":0", ":1"), "1"),
        json("{}", "", "4294967297"),
        json("{}", "", "-4294967298"),
        json("{}", "", "-9223372036854775808"),
        json("{}", "", "9223372036854775807"),
    ] {
        assert!(!reads(&bad), "{bad}");
    }
}

/// File systems allow directories nested a few thousand deep. JSON parsers stop at a nesting of 128.
#[test]
fn depth_is_no_matter() {
    let lines = "d/".repeat(10_000);
    let listing = Sketch::default().path(&path('a'), &lines).listing(&[]);
    let json = serde_json::to_string(&listing).expect("listings serialise");
    assert_eq!(serde_json::from_str::<Listing>(&json).expect("and parse"), listing);
}

proptest! {
    #[test]
    fn nodes_round_trip(index: u32, kind in 0..4) {
        let node = [Node::File, Node::Dangling, Node::Directory(index), Node::Link(index)][kind as usize];
        prop_assert_eq!(Node::try_from(i64::from(node)), Ok(node));
    }
}
