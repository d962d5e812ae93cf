use super::*;
use crate::closure::PathInfo;
use crate::digest::NarHash;
use proptest::{
    prelude::{any, prop},
    prop_assert, prop_assert_eq, proptest,
    strategy::Strategy as _,
};
use std::sync::Arc;

const MB: u64 = 1_000_000;

/// A closure from lines `name size references…`; the name's hash part is derived from it.
fn closure(lines: &[(&str, u64, &[&str])]) -> Closure {
    let records: Vec<PathInfo> = lines
        .iter()
        .map(|(name, nar_size, references)| PathInfo {
            path: path(name),
            nar_hash: NarHash::of(name.as_bytes()),
            nar_size: *nar_size,
            references: references.iter().map(|name| path(name)).collect(),
        })
        .collect();
    Closure::new(&records).expect("closed")
}

fn path(name: &str) -> crate::StorePath {
    let hash: String =
        NarHash::of(name.as_bytes()).hex().chars().map(|c| if c == 'e' { 'z' } else { c }).collect();
    format!("/nix/store/{}-{name}", &hash[..32]).parse().expect("a store path")
}

/// The names in each group, sorted.
fn names(closure: &Closure, groups: &[Vec<usize>]) -> Vec<String> {
    let group = |members: &Vec<usize>| {
        let mut names: Vec<&str> = members.iter().map(|&i| closure.paths()[i].path.name()).collect();
        names.sort_unstable();
        names.join(" ")
    };
    groups.iter().map(group).collect()
}

fn counts(counts: &[(&str, u64)]) -> PopularityCounts {
    counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[test]
fn strategies_have_names() {
    for name in [StrategyName::Sharing, StrategyName::Popularity] {
        assert_eq!(name.to_string().parse(), Ok(name));
    }
    assert_eq!(StrategyName::default(), StrategyName::Sharing);
    assert!("Sharing".parse::<StrategyName>().is_err());
}

/// a → b, c; b → d; c → d; d → e. Below a, d is dominated by a alone, and e by d.
fn diamond(d_size: u64) -> Closure {
    closure(&[
        ("a", 1, &["b", "c"]),
        ("b", 2, &["d"]),
        ("c", 3, &["d"]),
        ("d", d_size, &["e"]),
        ("e", 5, &[]),
    ])
}

#[test]
fn popularity_follows_dominators() {
    let check = |closure: &Closure, counted: &[(&str, u64)], budget: usize, expect: &[&str]| {
        let groups = Popularity::new(counts(counted)).group(closure, budget);
        assert_eq!(names(closure, &groups), expect);
    };
    // Everything is dominated by the only top.
    check(&diamond(4), &[], 94, &["a b c d e"]);
    // What is in the top percentile is pulled out with what it dominates.
    check(&diamond(4), &[("d", 100), ("a", 2)], 94, &["d e", "a b c"]);
    // So is a closure of more than 100 MB, and each dependent that has one.
    check(&diamond(101 * MB), &[], 94, &["d e", "c", "b", "a"]);
    // The lowest ratings are merged: a 1, b 2, c 3.
    check(&diamond(101 * MB), &[], 3, &["d e", "c", "a b"]);
    check(&diamond(101 * MB), &[], 1, &["a b c d e"]);
    check(&diamond(101 * MB), &[], 0, &["a b c d e"]);
    // A merged group has the sum of the ratings, and is placed by it.
    check(&closure(&[("p", 10, &[]), ("q", 11, &[]), ("r", 12, &[])]), &[("z", 9)], 2, &["p q", "r"]);
    // Two tops with a common dependency: the root dominates it.
    check(&closure(&[("x", 9, &["z"]), ("y", 8, &["z"]), ("z", 7, &[])]), &[], 94, &["x", "y", "z"]);
    // Nothing refers to a cycle from outside.
    check(&closure(&[("k", 2, &["l"]), ("l", 1, &["k"])]), &[], 94, &["k", "l"]);
}

/// base is everywhere, part comes with tool in 41 of 42 closures, other is rare.
fn tool_with_dependents() -> Closure {
    let dependents: Vec<String> = (0..40).map(|i| format!("user{i}-1.{i}")).collect();
    let mut lines: Vec<(&str, u64, &[&str])> = vec![
        ("base-1", 50 * MB, &[]),
        ("tool-1", 3 * MB, &["base-1", "part-1"]),
        ("part-1", MB, &["base-1"]),
        ("other-1", 20 * MB, &["base-1"]),
    ];
    lines.extend(dependents.iter().map(|name| (name.as_str(), MB, &["tool-1"] as &[&str])));
    lines.extend([("lone1-1", MB, &["base-1"] as &[&str]), ("lone2-1", MB, &["base-1"])]);
    closure(&lines)
}

fn image_of_tool() -> Closure {
    closure(&[
        ("base-1", 50 * MB, &[]),
        ("tool-2", 3 * MB, &["base-1", "part-1"]),
        ("part-1", MB, &["base-1"]),
        ("other-1", 20 * MB, &["base-1"]),
        ("user7-1.7", MB, &["tool-2"]),
        ("new-1", 40 * MB, &["base-1"]),
    ])
}

#[test]
fn sharing_keeps_co_travellers_together() {
    let strategy = Sharing::new(Arc::new(RevisionProfile::of_package_set(&tool_with_dependents())));
    let image = image_of_tool();
    let check = |budget, expect: &[&str]| {
        assert_eq!(names(&image, &strategy.group(&image, budget)), expect, "{budget}");
    };
    // The anchor is the tool, in whatever version: its closure comes first.
    check(94, &["base-1", "part-1 tool-2", "other-1", "user7-1.7", "new-1"]);
    check(3, &["base-1", "other-1", "new-1 part-1 tool-2 user7-1.7"]);
    check(1, &["base-1 new-1 other-1 part-1 tool-2 user7-1.7"]);
    assert!(strategy.group(&Closure::default(), 94).is_empty());
}

#[test]
fn an_excerpt_is_as_good_as_the_whole() {
    let profile = RevisionProfile::of_package_set(&tool_with_dependents());
    let image = image_of_tool();
    let places = image.paths().iter().map(|member| (&member.path, profile.place(&member.path)));
    let excerpt = RevisionProfile::excerpt(profile.id(), Arc::clone(profile.plan()), places);
    assert_eq!(excerpt.id(), profile.id());
    let length = |profile| serde_json::to_string(profile).expect("profiles serialise").len();
    assert!(length(&excerpt) < length(&profile));
    let (whole, part) = (Sharing::new(Arc::new(profile)), Sharing::new(Arc::new(excerpt)));
    for budget in 1..8 {
        assert_eq!(whole.group(&image, budget), part.group(&image, budget));
    }
}

#[test]
fn sharing_without_a_profile_puts_the_largest_first() {
    let set = closure(&[
        ("a", MB, &["b"]),
        ("b", 2 * MB, &[]),
        ("c", 99_999, &[]),
        ("d", 9 * MB, &["a"]),
        ("e", 1, &[]),
    ]);
    let check = |budget, expect: &[(&str, Reason)]| {
        let layers = Sharing::default().layers(&set, budget);
        let members: Vec<Vec<usize>> = layers.iter().map(|layer| layer.members.clone()).collect();
        let reasons = layers.iter().map(|layer| layer.reason);
        let told: Vec<(String, Reason)> = names(&set, &members).into_iter().zip(reasons).collect();
        let expect: Vec<(String, Reason)> =
            expect.iter().map(|(names, reason)| ((*names).to_owned(), *reason)).collect();
        assert_eq!(told, expect, "{budget}");
    };
    // Nothing is too small for a layer of its own, so that an image can do with the layers of its packages.
    check(94, &["d", "b", "a", "c", "e"].map(|name| (name, Reason::Alone)));
    check(4, &[("d", Reason::Alone), ("b", Reason::Alone), ("a", Reason::Alone), ("c e", Reason::Tail)]);
    check(3, &[("d", Reason::Alone), ("b", Reason::Alone), ("a c e", Reason::Tail)]);
    check(1, &[("a b c d e", Reason::Tail)]);
}

#[test]
fn what_is_small_in_a_stage_is_together() {
    let set = tool_with_dependents();
    let strategy = Sharing::new(Arc::new(RevisionProfile::of_package_set(&set)));
    // The parts of the tool have become small, and there are two more of them.
    let image = closure(&[
        ("base-1", 50 * MB, &[]),
        ("tool-2", 3 * MB, &["base-1", "new1-1", "new2-1"]),
        ("new1-1", 5_000, &["base-1"]),
        ("new2-1", 6_000, &[]),
        ("lone1-1", 50_000, &["base-1"]),
        ("lone2-1", 60_000, &["base-1"]),
    ]);
    let layers = strategy.layers(&image, 94);
    let members: Vec<Vec<usize>> = layers.iter().map(|layer| layer.members.clone()).collect();
    assert_eq!(names(&image, &members), ["base-1", "tool-2", "new1-1 new2-1", "lone1-1 lone2-1"]);
    let tool = image.position(&path("tool-2")).expect("a member");
    let reasons: Vec<Reason> = layers.iter().map(|layer| layer.reason).collect();
    assert_eq!(reasons, [Reason::Alone, Reason::Alone, Reason::Small(tool), Reason::Tail]);
}

#[test]
fn a_profile_does_not_hang_on_store_paths() {
    let profile = |from: &str| {
        let lines = tool_with_dependents();
        let renamed: Vec<PathInfo> = lines
            .paths()
            .iter()
            .map(|member| {
                let renamed = |i: usize| {
                    let name = lines.paths()[i].path.name();
                    format!("/nix/store/{}-{name}", &path(&format!("{from}{name}")).hash_part())
                        .parse()
                        .expect("a store path")
                };
                PathInfo {
                    path: renamed(lines.position(&member.path).expect("a member")),
                    nar_hash: NarHash::of(from.as_bytes()),
                    nar_size: member.nar_size,
                    references: member.references.iter().map(|&to| renamed(to)).collect(),
                }
            })
            .collect();
        RevisionProfile::of_package_set(&Closure::new(&renamed).expect("closed"))
    };
    assert_eq!(profile("one"), profile("another"));
}

#[test]
fn versions_tell_data_apart() {
    let set = diamond(4);
    let versions = [
        Sharing::default().version(),
        Sharing::new(Arc::new(RevisionProfile::of_package_set(&set))).version(),
        Popularity::new(PopularityCounts::default()).version(),
        Popularity::new(counts(&[("a", 1)])).version(),
        Popularity::new(counts(&[("a", 2)])).version(),
    ];
    for (i, version) in versions.iter().enumerate() {
        assert!(!versions[..i].contains(version), "{version}");
    }
}

#[test]
fn scores_count_what_is_fetched() {
    let one = closure(&[("a", 10, &[]), ("b", 5, &[])]);
    let two = closure(&[("a", 10, &[]), ("c", 3, &[])]);
    let by_name = |closure: &Closure, order: &[&str]| -> Vec<Vec<usize>> {
        order.iter().map(|name| vec![closure.position(&path(name)).expect("a member")]).collect()
    };
    let mut scorer = Scorer::default();
    scorer.pull(&one, &by_name(&one, &["a", "b"]));
    scorer.pull(&two, &by_name(&two, &["c", "a"]));
    scorer.pull(&two, &by_name(&two, &["a", "c"]));
    scorer.pull(&one, &[vec![0, 1]]);
    let score = scorer.score();
    assert_eq!((score.images, score.distinct_bytes, score.layers_max), (4, 18, 2));
    // a, b, c, and at last a with b; the chain loses a above c, and c above a.
    assert_eq!(score.transferred_bytes, 18 + 15);
    assert_eq!(score.chain_transferred_bytes, 15 + 13 + 3 + 15);
    assert_eq!(score.layers_mean, 7.0 / 4.0);
    assert_eq!(Scorer::default().score().ratio(), 1.0);
    // The same client, after an update of a.
    let updated = closure(&[("a-2", 12, &[]), ("b", 5, &[])]);
    scorer.pull(&updated, &[vec![0], vec![1]]);
    let since = scorer.score().since(&score);
    assert_eq!((since.images, since.distinct_bytes), (1, 12));
    assert_eq!(since.transferred_bytes, 12);
}

/// Any graph, cycles included.
fn graphs() -> impl proptest::strategy::Strategy<Value = Vec<PathInfo>> {
    let node = (0u64..200 * MB, proptest::collection::vec(any::<prop::sample::Index>(), 0..4));
    proptest::collection::vec(node, 1..40).prop_map(|nodes| {
        let named = |i: usize| path(&format!("n{i}-{}.{i}", i % 3));
        nodes
            .iter()
            .enumerate()
            .map(|(i, (nar_size, to))| PathInfo {
                path: named(i),
                nar_hash: NarHash::of(&i.to_le_bytes()),
                nar_size: *nar_size,
                references: to.iter().map(|index| named(index.index(nodes.len()))).collect(),
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn groupings_are_partitions(set in graphs(), budget in 0usize..50, shuffle in any::<prop::sample::Index>()) {
        let all = Closure::new(&set).expect("closed");
        let mut rotated = set.clone();
        rotated.rotate_left(shuffle.index(set.len()));
        let same = Closure::new(rotated.iter().chain(&set)).expect("closed");
        let popular = set.iter().enumerate().map(|(i, info)| (info.path.name().to_owned(), i as u64)).collect();
        // The names of another revision, where other things refer to each other.
        let mut other = set.clone();
        for (i, info) in other.iter_mut().enumerate() {
            info.references.clone_from(&set[(i + 1) % set.len()].references);
        }
        let other = RevisionProfile::of_package_set(&Closure::new(&other).expect("closed"));
        let strategies: [&dyn Strategy; 5] = [
            &Sharing::default(),
            &Sharing::new(Arc::new(other)),
            &Sharing::new(Arc::new(RevisionProfile::of_package_set(&all))),
            &Popularity::new(PopularityCounts::default()),
            &Popularity::new(popular),
        ];
        for strategy in strategies {
            let groups = strategy.group(&all, budget);
            prop_assert_eq!(&groups, &strategy.group(&same, budget));
            prop_assert!(groups.len() <= budget.max(1));
            prop_assert!(groups.iter().all(|group| !group.is_empty() && group.is_sorted()));
            let mut members: Vec<usize> = groups.concat();
            members.sort_unstable();
            prop_assert_eq!(members, (0..all.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn profiles_survive_being_stored(set in graphs()) {
        let profile = RevisionProfile::of_package_set(&Closure::new(&set).expect("closed"));
        let json = serde_json::to_string(&profile).expect("serialises");
        let read: RevisionProfile = serde_json::from_str(&json).expect("parses");
        prop_assert_eq!(read, profile);
    }
}
