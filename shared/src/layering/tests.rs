use super::*;
use crate::nix::closure::PathInfo;
use crate::oci::digest::NarHash;
use proptest::{
    prelude::{any, prop},
    prop_assert, prop_assert_eq, proptest,
    strategy::Strategy as _,
};
use std::sync::Arc;

const MB: u64 = 1_000_000;

/// A closure of (name, NAR size, references). The hash part of each store path is derived from its name.
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

/// a → b, c; b → d; c → d; d → e. Only a dominates d, and d dominates e.
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
fn popularity_groups_by_dominators_as_nixery_does() {
    let check = |closure: &Closure, counted: &[(&str, u64)], budget: usize, expect: &[&str]| {
        let groups = Popularity::new(counts(counted)).group(closure, &[], budget);
        assert_eq!(names(closure, &groups), expect);
    };
    // The only top dominates everything.
    check(&diamond(4), &[], 94, &["a b c d e"]);
    // A member in the top percentile becomes a top, with the members that it dominates.
    check(&diamond(4), &[("d", 100), ("a", 2)], 94, &["d e", "a b c"]);
    // So does every member with a closure of more than 100 MB.
    check(&diamond(101 * MB), &[], 94, &["d e", "c", "b", "a"]);
    // The lowest ratings are merged: a 1, b 2, c 3.
    check(&diamond(101 * MB), &[], 3, &["d e", "c", "a b"]);
    check(&diamond(101 * MB), &[], 1, &["a b c d e"]);
    check(&diamond(101 * MB), &[], 0, &["a b c d e"]);
    // The rating of a merged group is the sum of the ratings, and decides its position.
    check(&closure(&[("p", 10, &[]), ("q", 11, &[]), ("r", 12, &[])]), &[("z", 9)], 2, &["p q", "r"]);
    // Two tops have a common dependency, so only the root dominates it.
    check(&closure(&[("x", 9, &["z"]), ("y", 8, &["z"]), ("z", 7, &[])]), &[], 94, &["x", "y", "z"]);
    // A cycle to which nothing else refers.
    check(&closure(&[("k", 2, &["l"]), ("l", 1, &["k"])]), &[], 94, &["k", "l"]);
}

/// base is in every closure, part is with tool in 41 of 42 closures, other is rare.
fn tool_with_dependents() -> Closure {
    let dependents: Vec<String> = (0..40).map(|i| format!("user{i}-1.{i}")).collect();
    let mut lines: Vec<(&str, u64, &[&str])> = vec![
        ("base-1", 50 * MB, &[]),
        ("tool-1", 6 * MB, &["base-1", "part-1"]),
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
        ("tool-2", 6 * MB, &["base-1", "part-1"]),
        ("part-1", MB, &["base-1"]),
        ("other-1", 20 * MB, &["base-1"]),
        ("user7-1.7", MB, &["tool-2"]),
        ("new-1", 40 * MB, &["base-1"]),
    ])
}

/// Packages with one output each.
fn parts(closure: &Closure, names: &[&str]) -> Vec<Part> {
    names.iter().map(|name| Part::new(closure, [&path(name)], false)).collect()
}

fn learnt(set: &Closure) -> Sharing {
    Sharing::new(Arc::new(RevisionProfile::of_package_set(set, PullCosts::default())))
}

#[test]
fn paths_of_3_mb_have_layers_within_the_budget() {
    let image = image_of_tool();
    let packages = parts(&image, &["other-1", "user7-1.7", "new-1"]);
    let check = |budget, expect: &[&str]| {
        assert_eq!(names(&image, &Sharing::default().group(&image, &packages, budget)), expect, "{budget}");
    };
    // A path of 6 MB has a layer. The largest closures come first, each above what it needs.
    let all = ["base-1", "new-1", "other-1", "part-1 tool-2", "user7-1.7"];
    check(94, &all);
    check(5, &all);
    check(4, &["base-1", "new-1", "other-1", "part-1 tool-2 user7-1.7"]);
    // With as many packages as layers, each layer has all that its package needs.
    check(3, &["base-1 new-1", "base-1 other-1", "base-1 part-1 tool-2 user7-1.7"]);
    // With more packages than layers, the smallest layers are merged.
    check(2, &["base-1", "new-1 other-1 part-1 tool-2 user7-1.7"]);
    check(1, &["base-1 new-1 other-1 part-1 tool-2 user7-1.7"]);
    check(0, &["base-1 new-1 other-1 part-1 tool-2 user7-1.7"]);
    assert!(Sharing::default().group(&Closure::default(), &[], 94).is_empty());
}

/// There are as many packages as the budget allows layers, and all need one large library. At the last step, every
/// package's layer would hold the library.
#[test]
fn the_last_step_holds_each_path_once() {
    let names: Vec<String> = (0..12).map(|i| format!("user{i}-1")).collect();
    let mut lines: Vec<(&str, u64, &[&str])> = vec![("library-1", 300 * MB, &[])];
    lines.extend(names.iter().map(|name| (name.as_str(), MB, &["library-1"] as &[&str])));
    let image = closure(&lines);
    let packages = parts(&image, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let layers = Sharing::default().layers(&image, &packages, 12);
    assert_eq!((layers.step, layers.layers.len()), (None, 12));
    let held: usize = layers.layers.iter().map(|layer| layer.members.len()).sum();
    assert_eq!(held, 13, "each path once: {layers:?}");
}

#[test]
fn implied_packages_are_in_the_lowest_layers() {
    let image = image_of_tool();
    let mut packages = parts(&image, &["other-1", "user7-1.7", "new-1", "tool-2"]);
    (packages[1].implied, packages[3].implied) = (true, true);
    assert_eq!(
        names(&image, &Sharing::default().group(&image, &packages, 94)),
        ["base-1", "part-1 tool-2", "user7-1.7", "new-1", "other-1"]
    );
}

#[test]
fn paths_that_many_packages_need_have_layers() {
    let strategy = learnt(&tool_with_dependents());
    let image = image_of_tool();
    let packages = parts(&image, &["other-1", "user7-1.7", "new-1"]);
    let check = |budget, expect: &[&str]| {
        let mut layers = names(&image, &strategy.group(&image, &packages, budget));
        assert_eq!(layers[0], "base-1", "every package needs it: {budget}");
        layers.sort_unstable();
        assert_eq!(layers, expect, "{budget}");
    };
    // The tool has a layer, whatever its version.
    check(94, &["base-1", "new-1", "other-1", "part-1 tool-2", "user7-1.7"]);
    check(4, &["base-1", "new-1", "other-1", "part-1 tool-2 user7-1.7"]);
    let reasons: Vec<Grouping> =
        strategy.layers(&image, &packages, 2).layers.into_iter().map(|layer| layer.reason).collect();
    assert!(matches!(reasons[..], [Grouping::Needed(_), Grouping::Tail]), "{reasons:?}");
}

/// A package that another depends on has no layer of its own if other layers hold all of its members.
#[test]
fn packages_covered_by_other_layers_have_none() {
    let image = closure(&[
        ("large-1", 9 * MB, &["small-1", "base-1"]),
        ("small-1", MB, &["base-1"]),
        ("base-1", 9 * MB, &[]),
    ]);
    let strategy = Sharing::default();
    let check = |packages: &[&str], expect: &[&str]| {
        assert_eq!(names(&image, &strategy.group(&image, &parts(&image, packages), 94)), expect);
    };
    check(&["large-1", "small-1"], &["base-1", "large-1 small-1"]);
    check(&["large-1"], &["base-1", "large-1 small-1"]);
    let alone = closure(&[("small-1", MB, &["base-1"]), ("base-1", 9 * MB, &[])]);
    let packages = parts(&alone, &["small-1"]);
    assert_eq!(names(&alone, &strategy.group(&alone, &packages, 94)), ["base-1", "small-1"]);
}

#[test]
fn an_excerpt_of_a_profile_gives_the_same_layers() {
    let profile = RevisionProfile::of_package_set(&tool_with_dependents(), PullCosts::default());
    let image = image_of_tool();
    let packages = parts(&image, &["other-1", "user7-1.7", "new-1"]);
    let places = image.paths().iter().map(|member| (&member.path, profile.place(&member.path)));
    let excerpt = RevisionProfile::excerpt(profile.id(), profile.layer_bytes(), places);
    assert_eq!(excerpt.id(), profile.id());
    let length = |profile| serde_json::to_string(profile).expect("profiles serialise").len();
    assert!(length(&excerpt) < length(&profile));
    let (whole, part) = (Sharing::new(Arc::new(profile)), Sharing::new(Arc::new(excerpt)));
    assert_eq!(whole.version(), part.version());
    for budget in 1..8 {
        assert_eq!(whole.group(&image, &packages, budget), part.group(&image, &packages, budget));
    }
}

#[test]
fn a_profile_does_not_depend_on_store_hashes() {
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
        RevisionProfile::of_package_set(&Closure::new(&renamed).expect("closed"), PullCosts::default())
    };
    assert_eq!(profile("one"), profile("another"));
}

#[test]
fn different_profiles_have_different_versions() {
    let set = diamond(4);
    let versions = [
        Sharing::default().version(),
        Sharing::new(Arc::new(RevisionProfile::empty(PullCosts {
            layer_seconds: 0.01,
            ..PullCosts::default()
        })))
        .version(),
        learnt(&set).version(),
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
    // The client fetches a, b, c, and at last a with b. Docker's classic store fetches a again above c, and c above a.
    assert_eq!(score.transferred_bytes, 18 + 15);
    assert_eq!(score.chain_transferred_bytes, 15 + 13 + 3 + 15);
    assert_eq!((score.transferred_layers, score.alone_layers, score.alone_bytes), (4, 7, 15 + 13 + 13 + 15));
    assert_eq!((score.stored_bytes, score.composable), (18 + 15, 0));
    let costs = PullCosts { throughput: 10.0, layer_seconds: 2.0 };
    assert_eq!(costs.layer_bytes(), 20);
    assert_eq!(score.sequence_seconds(costs), 3.3 + 8.0);
    assert_eq!(score.first_seconds(costs), (5.6 + 14.0) / 4.0);
    assert_eq!(score.layers_mean, 7.0 / 4.0);
    assert_eq!(Scorer::default().score().ratio(), 1.0);
    // The layers of one image's packages do not count for the next image.
    scorer.package(&one, &[vec![0], vec![1]]);
    scorer.package(&two, &[vec![0], vec![1]]);
    scorer.pull(&two, &[vec![1], vec![0]]);
    scorer.pull(&two, &[vec![1], vec![0]]);
    assert_eq!(scorer.score().composable, 1);
    assert_eq!(scorer.score().composable_share(), 1.0 / 6.0);
    let score = scorer.score();
    // The same client pulls again after an update of a.
    let updated = closure(&[("a-2", 12, &[]), ("b", 5, &[])]);
    scorer.pull(&updated, &[vec![0], vec![1]]);
    let since = scorer.score().since(&score);
    assert_eq!((since.images, since.distinct_bytes), (1, 12));
    assert_eq!(since.transferred_bytes, 12);
}

/// Any graph. Without `cycles`, each node refers only to nodes before it.
fn graphs(cycles: bool) -> impl proptest::strategy::Strategy<Value = Vec<PathInfo>> {
    let node = (0u64..40 * MB, proptest::collection::vec(any::<prop::sample::Index>(), 0..4));
    proptest::collection::vec(node, 1..40).prop_map(move |nodes| {
        let named = |i: usize| path(&format!("n{i}-{}.{i}", i % 3));
        nodes
            .iter()
            .enumerate()
            .map(|(i, (nar_size, to))| PathInfo {
                path: named(i),
                nar_hash: NarHash::of(&i.to_le_bytes()),
                nar_size: *nar_size,
                references: match if cycles { nodes.len() } else { i } {
                    0 => Vec::new(),
                    others => to.iter().map(|index| named(index.index(others))).collect(),
                },
            })
            .collect()
    })
}

/// Packages of a graph. Some are implied; each has one or two outputs.
fn packages(
    graph: &[PathInfo],
    picked: &[(prop::sample::Index, prop::sample::Index, bool)],
) -> Vec<(Vec<StorePath>, bool)> {
    let of = |index: &prop::sample::Index| index.get(graph).path.clone();
    picked.iter().map(|(one, other, implied)| (vec![of(one), of(other)], *implied)).collect()
}

/// The closure of the packages, and the packages as its parts.
fn image(graph: &[PathInfo], packages: &[(Vec<StorePath>, bool)]) -> (Closure, Vec<Part>) {
    let by_path: std::collections::BTreeMap<_, _> = graph.iter().map(|info| (&info.path, info)).collect();
    let mut members = std::collections::BTreeMap::new();
    let mut next: Vec<&StorePath> = packages.iter().flat_map(|(outputs, _)| outputs).collect();
    while let Some(path) = next.pop() {
        if members.insert(path, by_path[path]).is_none() {
            next.extend(&by_path[path].references);
        }
    }
    let closure = Closure::new(members.into_values()).expect("closed");
    let parts = packages.iter().map(|(outputs, implied)| Part::new(&closure, outputs, *implied)).collect();
    (closure, parts)
}

fn picked() -> impl proptest::strategy::Strategy<Value = Vec<(prop::sample::Index, prop::sample::Index, bool)>>
{
    proptest::collection::vec(
        (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>()),
        1..10,
    )
}

proptest! {
    #[test]
    fn every_path_is_in_a_layer(
        set in graphs(true), budget in 0usize..50, shuffle in any::<prop::sample::Index>(), picked in picked(),
    ) {
        let (all, parts) = image(&set, &packages(&set, &picked));
        let mut rotated = set.clone();
        rotated.rotate_left(shuffle.index(set.len()));
        let (same, same_parts) = image(&rotated, &packages(&set, &picked));
        let popular = set.iter().enumerate().map(|(i, info)| (info.path.name().to_owned(), i as u64)).collect();
        // Another revision has the same names, but other references.
        let mut other = set.clone();
        for (i, info) in other.iter_mut().enumerate() {
            info.references.clone_from(&set[(i + 1) % set.len()].references);
        }
        let strategies: [&dyn Strategy; 5] = [
            &Sharing::default(),
            &learnt(&Closure::new(&other).expect("closed")),
            &learnt(&Closure::new(&set).expect("closed")),
            &Popularity::new(PopularityCounts::default()),
            &Popularity::new(popular),
        ];
        for strategy in strategies {
            let groups = strategy.group(&all, &parts, budget);
            prop_assert_eq!(&groups, &strategy.group(&same, &same_parts, budget));
            prop_assert!(groups.len() <= budget.max(1));
            prop_assert!(groups.iter().all(|group| !group.is_empty() && group.is_sorted()));
            let mut members: Vec<usize> = groups.concat();
            members.sort_unstable();
            members.dedup();
            prop_assert_eq!(members, (0..all.len()).collect::<Vec<_>>());
            // Members that belong to no package are in a layer, too.
            let mut members = strategy.group(&all, &parts[1..], budget).concat();
            members.sort_unstable();
            members.dedup();
            prop_assert_eq!(members.len(), all.len());
        }
    }

    /// A package has the same layers in every image at the same step.
    #[test]
    fn layers_are_functions_of_one_package(set in graphs(false), picked in picked(), price in 0u8..3) {
        let packages = packages(&set, &picked);
        let (all, parts) = image(&set, &packages);
        let costs = PullCosts { layer_seconds: 0.04 * f64::from(price), ..PullCosts::default() };
        let set = Closure::new(&set).expect("closed");
        let strategies = [
            Sharing::new(Arc::new(RevisionProfile::empty(costs))),
            Sharing::new(Arc::new(RevisionProfile::of_package_set(&set, costs))),
        ];
        let names = |closure: &Closure, layer: &Layer| -> Vec<StorePath> {
            layer.members.iter().map(|&i| closure.paths()[i].path.clone()).collect()
        };
        let infos: Vec<PathInfo> = set.paths().iter().map(|member| PathInfo {
            path: member.path.clone(),
            nar_hash: member.nar_hash,
            nar_size: member.nar_size,
            references: member.references.iter().map(|&to| set.paths()[to].path.clone()).collect(),
        }).collect();
        for strategy in &strategies {
            for step in 0..9 {
                let mut known = std::collections::BTreeSet::new();
                for package in &packages {
                    let (closure, part) = image(&infos, std::slice::from_ref(package));
                    known.extend(strategy.layers_at(&closure, &part, step).iter().map(|layer| names(&closure, layer)));
                }
                for layer in strategy.layers_at(&all, &parts, step) {
                    prop_assert!(known.contains(&names(&all, &layer)), "{layer:?}");
                }
            }
            // All packages of an image are at one step, unless the image has too many packages.
            for budget in 1..12 {
                let Layers { layers, step } = strategy.layers(&all, &parts, budget);
                match step {
                    Some(step) => prop_assert_eq!(layers, strategy.layers_at(&all, &parts, step)),
                    None => {
                        let last = strategy.layers_at(&all, &parts, 8);
                        let bytes = |i: &usize| all.paths()[*i].nar_size;
                        let held: u64 = last.iter().flat_map(|layer| &layer.members).map(bytes).sum();
                        prop_assert!(last.len() > budget || held > 2 * all.nar_size());
                    }
                }
            }
        }
    }

    #[test]
    fn profiles_survive_being_stored(set in graphs(true)) {
        let profile = RevisionProfile::of_package_set(&Closure::new(&set).expect("closed"), PullCosts::default());
        let json = serde_json::to_string(&profile).expect("serialises");
        let read: RevisionProfile = serde_json::from_str(&json).expect("parses");
        prop_assert_eq!(read, profile);
    }
}
