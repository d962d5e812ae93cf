//! Suggests names for one that does not exist.
//!
//! Names have the form that image names use: lower case, with dots between a set and its members. Fuzzy search engines
//! are not used because they rank differently: here a name with two letters swapped must come before a longer name that
//! contains the word.

/// Sets of nixpkgs that come first if several sets have a package of the wanted name. The other sets often hold the
/// same packages for rarely used interpreters.
const MAINSTREAM: [&str; 10] = [
    "python3packages",
    "perlpackages",
    "haskellpackages",
    "nodepackages",
    "luapackages",
    "ocamlpackages",
    "rpackages",
    "emacspackages",
    "vimplugins",
    "fishplugins",
];

/// The greatest number of variants of a name that are counted.
const MAX_FAMILY: usize = 100;

/// How a name resembles the wanted one, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    /// The names are equal apart from the set, the separators, or the prefix `gnu`.
    Same,
    /// Two letters are swapped.
    Swapped,
    /// The name begins with the wanted word, as `postgresql` does with `postgres`.
    Longer,
    /// One letter is wrong, missing or extra.
    Typo,
    /// The wanted word begins with the name.
    Shorter,
    /// A few letters are wrong.
    Typos,
    /// The name contains the wanted word.
    Contains,
}

/// The names that resemble the wanted one most, best first and at most `limit`.
///
/// If several names begin with the wanted word, the one with the most variants comes first. For `postgres` that is
/// `postgresql`, because there are also `postgresql_15` and more, and not the shorter `postgrest`.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>, limit: usize) -> Vec<&'a str> {
    let alike: Vec<_> = names
        .into_iter()
        .filter_map(|name| compare(wanted, name).map(|(likeness, distance)| (likeness, distance, name)))
        .collect();
    let longer = alike.iter().filter(|(likeness, ..)| *likeness == Likeness::Longer);
    let mut longer: Vec<&str> = longer.map(|(.., name)| *name).collect();
    longer.sort_unstable();
    let family = |name: &str| {
        let begins = longer.partition_point(|other| *other < name);
        longer[begins..].iter().take_while(|other| other.starts_with(name)).take(MAX_FAMILY).count()
    };
    let rank = |&(likeness, distance, name): &(Likeness, usize, &'a str)| {
        let (set, _) = split(name);
        let side = !set.is_empty() && !MAINSTREAM.contains(&set);
        let rest = if likeness == Likeness::Longer { MAX_FAMILY - family(name) } else { 0 };
        let first = if likeness == Likeness::Longer { 0 } else { distance };
        (likeness, first, side, rest, distance, !set.is_empty(), name.len(), name)
    };
    let mut ranked: Vec<_> = alike.iter().map(|alike| (rank(alike), alike.2)).collect();
    ranked.sort_unstable();
    ranked.dedup();
    ranked.into_iter().take(limit).map(|(_, name)| name).collect()
}

/// How a name resembles the wanted one, and its distance from it. `None` if it does not.
fn compare(wanted: &str, name: &str) -> Option<(Likeness, usize)> {
    let ((wanted_set, wanted_last), (set, last)) = (split(wanted), split(name));
    let (likeness, distance) = compare_words(wanted_last, last)?;
    if wanted_set.is_empty() || wanted_set == set {
        return Some((likeness, distance));
    }
    // The name is in another set than the wanted one: either the set is misspelt, or it is really another.
    let off = distance_within(wanted_set, set, tolerance(wanted_set));
    match (likeness, off) {
        (_, Some(off)) => Some((likeness.max(Likeness::Typo), distance + off)),
        (Likeness::Same, None) => Some((Likeness::Shorter, 0)),
        (_, None) => None,
    }
}

fn compare_words(wanted: &str, word: &str) -> Option<(Likeness, usize)> {
    let letters = |text: &str| text.bytes().filter(|byte| !b"-_.".contains(byte)).collect::<Vec<_>>();
    let surplus = wanted.len().abs_diff(word.len());
    if wanted == word || (surplus <= 4 && !wanted.is_empty() && letters(wanted) == letters(word)) {
        return Some((Likeness::Same, surplus));
    }
    // In nixpkgs, many GNU programs have the prefix `gnu`: gnumake, gnutar.
    if word.strip_prefix("gnu") == Some(wanted) {
        return Some((Likeness::Same, surplus));
    }
    // A common beginning must be long enough: for `gitfull`, `git` is no useful suggestion.
    let is_most = word.len() > 2 && word.len() * 2 > wanted.len();
    let distance = distance_within(wanted, word, tolerance(wanted));
    match distance {
        Some(1) if surplus == 0 && is_anagram(wanted, word) => Some((Likeness::Swapped, 1)),
        _ if wanted.len() > 1 && word.starts_with(wanted) => Some((Likeness::Longer, surplus)),
        Some(distance @ ..=1) => Some((Likeness::Typo, distance)),
        _ if is_most && wanted.starts_with(word) => Some((Likeness::Shorter, surplus)),
        Some(distance) => Some((Likeness::Typos, distance)),
        None if wanted.len() > 2 && word.contains(wanted) => Some((Likeness::Contains, surplus)),
        None => None,
    }
}

fn is_anagram(a: &str, b: &str) -> bool {
    let sorted = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.sort_unstable();
        bytes
    };
    sorted(a) == sorted(b)
}

/// How many letters of a word may be wrong.
fn tolerance(word: &str) -> usize {
    match word.len() {
        0..=2 => 0,
        3..=4 => 1,
        5..=7 => 2,
        _ => 3,
    }
}

/// The edit distance, or `None` if it is greater than `limit`. A swap of neighbouring letters counts once. Most pairs
/// differ so much in length that the distance need not be computed.
fn distance_within(a: &str, b: &str, limit: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    Some(strsim::osa_distance(a, b)).filter(|distance| *distance <= limit)
}

/// The set of a name (possibly empty), and the name within the set.
fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or(("", name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NAMES: [&str; 24] = [
        "git",
        "gitfull",
        "git-lfs",
        "gtimelog",
        "gnumake",
        "mako",
        "cmake",
        "htop",
        "hello",
        "nginx",
        "nodejs",
        "nodejs_20",
        "postgresql",
        "postgresql_15",
        "postgrest",
        "pypy3packages.requests",
        "python3",
        "python3packages.requests",
        "python3packages.numpy",
        "ripgrep",
        "vscode",
        "vscodium",
        "perlpackages.timedate",
        "ruby",
    ];

    #[test]
    fn finds_what_was_meant() {
        let check = |wanted: &str, expect: &[&str]| assert_eq!(nearest(wanted, NAMES, 3), expect, "{wanted}");
        check("gti", &["git", "gtimelog"]);
        check("helo", &["hello"]);
        check("python", &["python3"]);
        check("node-js", &["nodejs"]);
        check("nodejs20", &["nodejs_20", "nodejs"]);
        check("vscod", &["vscode", "vscodium"]);
        // A longer name comes before a misspelt one, and a name with variants before the variants.
        check("postgres", &["postgresql", "postgrest", "postgresql_15"]);
        check("node", &["nodejs", "nodejs_20"]);
        check("vs", &["vscode", "vscodium"]);
        check("make", &["gnumake", "mako", "cmake"]);
        check("grep", &["ripgrep"]);
        // Mainstream sets come first.
        check("requests", &["python3packages.requests", "pypy3packages.requests"]);
        check("reqests", &["python3packages.requests", "pypy3packages.requests"]);
        check("python3packages.nump", &["python3packages.numpy"]);
        check("pythn3packages.numpy", &["python3packages.numpy"]);
        check("python3packages.git", &["git"]);
        check("zzzzzz", &[]);
        check("", &[]);
        check("g", &[]);
    }

    #[test]
    fn a_large_set_is_searched_quickly() {
        let names: Vec<String> = (0..150_000).map(|i| format!("set{}.package{i}", i % 7)).collect();
        let found = nearest("pakcage149999", names.iter().map(String::as_str), 1);
        assert_eq!(found, ["set3.package149999"]);
    }

    proptest! {
        #[test]
        fn the_name_itself_comes_first(name in "[a-z0-9]{2,8}(\\.[a-z0-9]{2,8})?", others in proptest::collection::vec("[a-z0-9]{2,8}", 0..20)) {
            let names = others.iter().chain([&name]).map(String::as_str);
            prop_assert_eq!(nearest(&name, names, 1), [name.as_str()]);
        }

        #[test]
        fn never_panics(wanted in "\\PC{0,20}", names in proptest::collection::vec("\\PC{0,20}", 0..8)) {
            let found = nearest(&wanted, names.iter().map(String::as_str), 3);
            prop_assert!(found.len() <= 3);
        }
    }
}
