use super::*;
use crate::{
    naming::package::{Output, Package},
    nix::listing::{Directory, Listing, Node, Root, Target},
    oci::digest::NarHash,
};
use proptest::prelude::*;

fn path(letter: char) -> StorePath {
    format!("/nix/store/{}-{letter}", "0".repeat(32)).parse().expect("a store path")
}

fn info(letter: char, content: u8, references: &str) -> PathInfo {
    PathInfo {
        path: path(letter),
        nar_hash: NarHash::from_bytes([content; 32]),
        nar_size: 100 + u64::from(content),
        references: references.chars().map(path).collect(),
    }
}

/// The listing of an output. It may have a link to another path.
fn listing(output: char, link: Option<char>) -> Listing {
    let root = Root { path: path(output), node: Node::Directory(0), propagated: Vec::new() };
    let target = |letter| Target { directory: 1, path: path(letter), below: Vec::new() };
    Listing::new(vec![Directory::new(); 2], link.map(target).into_iter().collect(), vec![root])
        .expect("every index is of a directory")
}

/// A package with this output, which refers to these paths with these contents.
fn record(output: char, dependencies: &[(char, u8)]) -> PackageRecord {
    let references: String = dependencies.iter().map(|(letter, _)| *letter).collect();
    let dependencies = dependencies.iter().map(|(letter, content)| info(*letter, *content, ""));
    PackageRecord {
        package: Package {
            attribute: output.into(),
            drv: format!("{}.drv", path(output)).parse().expect("a store path"),
            outputs: vec![Output { name: "out".into(), path: path(output) }],
            name: output.into(),
            pname: None,
            version: None,
            license: Vec::new(),
            main_program: None,
            description: None,
            homepage: None,
        },
        closure: dependencies.chain([info(output, 0, &references)]).collect(),
        listing: listing(output, None),
        sh: None,
        env: None,
        zoneinfo: None,
        decided: BTreeMap::new(),
    }
}

/// The number of the content that these records settle on for a path.
fn settled(records: &[&PackageRecord], letter: char) -> Result<u8, ClosureError> {
    let closure = closure(records)?;
    let member = &closure.paths()[closure.position(&path(letter)).expect("a member")];
    assert_eq!(
        member.nar_size,
        100 + u64::from(member.nar_hash.as_bytes()[0]),
        "size and hash are of one content"
    );
    Ok(member.nar_hash.as_bytes()[0])
}

fn contradiction(letter: char) -> Result<u8, ClosureError> {
    Err(ClosureError::Contradiction(path(letter)))
}

#[test]
fn the_smallest_hash_wins_in_any_order() {
    let (a, b, c) = (record('a', &[('t', 2)]), record('b', &[('t', 1)]), record('c', &[('t', 3)]));
    for records in [[&a, &b, &c], [&c, &b, &a], [&b, &a, &c]] {
        assert_eq!(settled(&records, 't'), Ok(1));
    }
    assert_eq!(settled(&[&a, &c], 't'), Ok(2));
    assert_eq!(settled(&[&c], 't'), Ok(3));
}

#[test]
fn decided_contents_win_over_smaller_hashes() {
    let (a, b) = (record('a', &[('t', 1), ('u', 1)]), record('b', &[('t', 2), ('u', 2)]));
    // This Nix store has the losing content of t, and the winning content of u.
    let mut made_anew = record('a', &[('t', 2), ('u', 1), ('v', 5)]);
    decide(&mut made_anew, &[&a, &b]);
    assert_eq!(made_anew.decided, [(path('t'), 1)].into());
    assert_eq!(settled(&[&made_anew, &a], 't'), Ok(2));
    let c = record('c', &[('t', 0)]);
    assert_eq!(settled(&[&c, &made_anew, &b], 't'), Ok(2));
    // Another store has another content. Choosing the same content again changes nothing.
    let mut again = record('c', &[('t', 0)]);
    decide(&mut again, &[&made_anew, &b]);
    assert_eq!(again.decided, [(path('t'), 2)].into());
    assert_eq!(settled(&[&again, &made_anew], 't'), Ok(0));
    let mut same = record('a', &[('t', 0)]);
    decide(&mut same, &[&made_anew, &again]);
    assert_eq!(same.decided, again.decided);
}

#[test]
fn renewed_records_agree_with_the_settlement() {
    let (a, b) = (record('a', &[('t', 2), ('u', 7)]), record('b', &[('t', 1), ('u', 7)]));
    let settlement = Settlement::new(&[&a, &b]).expect("settled");
    assert_eq!(settlement.renewed(&b), None);
    let renewed = settlement.renewed(&a).expect("its content of t lost");
    assert_eq!(renewed, record('a', &[('t', 1), ('u', 7)]));
    // A renewed record also gets the count of decisions.
    let mut decided = record('c', &[('t', 3)]);
    decide(&mut decided, &[&a]);
    let settlement = Settlement::new(&[&decided, &b]).expect("settled");
    let renewed = settlement.renewed(&b).expect("it lost");
    assert_eq!(renewed.decided, decided.decided);
    assert_eq!(settled(&[&renewed, &a], 't'), Ok(3));
}

#[test]
fn unknown_files_of_a_content_are_a_contradiction() {
    // The files in t are known only for the losing content.
    let (own, other) = (record('t', &[]), record('a', &[('t', 1)]));
    assert_eq!(settled(&[&own, &other], 't'), Ok(0));
    let mut lost = own.clone();
    lost.closure = vec![info('t', 2, "")];
    assert_eq!(settled(&[&lost, &other], 't'), contradiction('t'));
    assert_eq!(settled(&[&lost, &own], 't'), contradiction('t'), "listings may differ");
    // The same holds for the target of a link.
    let mut links = record('b', &[('t', 2)]);
    links.listing = listing('b', Some('t'));
    assert_eq!(settled(&[&links, &other], 't'), contradiction('t'));
    links.listing = listing('b', Some('u'));
    assert_eq!(settled(&[&links, &other], 't'), Ok(1));
    // The contents refer to different paths.
    let mut refers = record('b', &[('t', 2), ('u', 1)]);
    refers.closure[0].references = vec![path('u')];
    assert_eq!(settled(&[&refers, &other], 't'), contradiction('t'));
    // Only the losing content is known to have a shell.
    let claims: [fn(&mut PackageRecord) -> &mut Option<StorePath>; 3] =
        [|record| &mut record.sh, |record| &mut record.env, |record| &mut record.zoneinfo];
    for claim in claims {
        let (mut winner, mut loser) = (record('a', &[('t', 1)]), record('b', &[('t', 2)]));
        *claim(&mut loser) = Some(path('t'));
        assert_eq!(settled(&[&winner, &loser], 't'), contradiction('t'));
        *claim(&mut winner) = Some(path('t'));
        assert_eq!(settled(&[&winner, &loser], 't'), Ok(1));
    }
}

#[test]
fn no_path_is_lost_where_one_is_missing() {
    let mut open = record('a', &[('t', 1), ('u', 1)]);
    open.closure.remove(1);
    let error = closure(&[&open, &record('b', &[('t', 2)])]).expect_err("it is not closed");
    assert_eq!(error, ClosureError::Open { from: path('a'), to: path('u') });
}

/// A few records whose dependencies have a few contents. Some contents are marked as chosen.
fn records() -> impl Strategy<Value = Vec<PackageRecord>> {
    let dependencies = proptest::collection::btree_map(
        proptest::sample::select(vec!['t', 'u', 'v']),
        (0..3u8, 0..3u32),
        0..4,
    );
    proptest::collection::vec(dependencies, 1..5).prop_map(|all| {
        let outputs = 'a'..;
        let records = outputs.zip(all).map(|(output, dependencies)| {
            let contents: Vec<_> =
                dependencies.iter().map(|(path, (content, _))| (*path, *content)).collect();
            let decided = dependencies.iter().filter(|(_, (_, decided))| *decided > 0);
            PackageRecord {
                decided: decided.map(|(letter, (_, decided))| (path(*letter), *decided)).collect(),
                ..record(output, &contents)
            }
        });
        records.collect()
    })
}

proptest! {
    /// All images settle on the same contents, whatever the order of the records, and whichever are renewed first.
    #[test]
    fn any_order_and_any_renewal_settles_on_the_same_contents(records in records(), shift in 0..5usize, first in 0..5usize) {
        let all: Vec<_> = records.iter().collect();
        let expect = closure(&all).expect("nothing is claimed");
        let mut rotated = all.clone();
        rotated.rotate_left(shift % all.len());
        prop_assert_eq!(&closure(&rotated).expect("settled"), &expect);
        // Some images have only a part of the packages, and renew only their records.
        let (some, others) = records.split_at(first.min(records.len()));
        let renew = |records: &[PackageRecord]| -> Vec<PackageRecord> {
            let settlement = Settlement::new(&records.iter().collect::<Vec<_>>()).expect("settled");
            records.iter().map(|record| settlement.renewed(record).unwrap_or_else(|| record.clone())).collect()
        };
        let mixed = [renew(some), others.to_vec()].concat();
        prop_assert_eq!(&closure(&mixed.iter().collect::<Vec<_>>()).expect("settled"), &expect);
        // After that all records agree, and no record is renewed again.
        let renewed = renew(&mixed);
        let strict = Closure::new(renewed.iter().flat_map(|record| &record.closure)).expect("they agree");
        prop_assert_eq!(strict, expect);
        prop_assert_eq!(renew(&renewed), renewed);
    }

    /// The contents in one Nix store win over all contents in earlier records.
    #[test]
    fn decided_contents_win_over_earlier_records(records in records(), contents in proptest::collection::vec(0..3u8, 3)) {
        let before: Vec<_> = records.iter().collect();
        let store: Vec<_> = "tuv".chars().zip(contents).collect();
        let mut new = record('z', &store);
        decide(&mut new, &before);
        let all = [&before[..], &[&new]].concat();
        for (letter, content) in store {
            prop_assert_eq!(settled(&all, letter), Ok(content));
        }
    }
}
