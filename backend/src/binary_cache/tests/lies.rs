//! Caches that deliver something else than they say.

use super::fixture::{Facts, compress, store_path};
use super::*;
use crate::packing::noise;
use server::Fault;

const SIZE: usize = 600_000;

/// A cache whose NAR file has other bytes than the narinfo says.
async fn lying(facts: &Facts, bytes: Vec<u8>) -> Server {
    let (mut files, _) = CacheFiles::of_file(40, &noise(SIZE, 5), facts.compression);
    files.0.insert(facts.location.clone(), bytes);
    files.say(&Facts { file_size: None, ..facts.clone() }, Some(&facts.signature()));
    Server::start(files).await
}

/// What a cache delivers in place of a NAR.
fn lies(facts: &Facts) -> Vec<(&'static str, Vec<u8>)> {
    let nar = nar::of_file(&noise(SIZE, 5));
    let in_its_way = |nar: &[u8]| compress(nar, facts.compression);
    let changed = |at: usize| {
        let mut nar = nar.clone();
        nar[at] ^= 1;
        in_its_way(&nar)
    };
    let honest = in_its_way(&nar);
    let mut corrupt = honest.clone();
    corrupt[honest.len() / 2] ^= 0x55;
    corrupt.splice(honest.len() / 2..honest.len() / 2 + 8, [0xff; 8]);
    let followed = |more: &[u8]| [&honest[..], more].concat();
    let bomb = in_its_way(&vec![0; 30 << 20]);
    let named = {
        let mut nar = Vec::new();
        let words = ["nix-archive-1", "(", "type", "directory", "entry", "(", "name", ".wh.x", "node", "("];
        nar::strings(&mut nar, &words);
        nar::strings(&mut nar, &["type", "symlink", "target", "x", ")", ")", ")"]);
        in_its_way(&nar)
    };
    vec![
        ("another byte at the end", changed(nar.len() - 100)),
        ("another byte at the beginning", changed(200)),
        ("another length", changed(96)),
        ("no NAR", changed(8)),
        ("corrupt in the middle", corrupt),
        ("one byte more", in_its_way(&[&nar[..], b"x"].concat())),
        ("one byte less", in_its_way(&nar[..nar.len() - 1])),
        ("nothing", vec![]),
        ("a page of HTML", b"<html>".to_vec()),
        ("garbage after the end", followed(b"garbage")),
        ("another NAR after the end", followed(&honest)),
        ("a bomb", bomb),
        ("a name that no layer can have", named),
    ]
}

/// Nothing of it is kept, and the cache is named. With another cache, it helps to try again.
#[tokio::test(flavor = "multi_thread")]
async fn lies_are_noticed() {
    let bytes = noise(SIZE, 5);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("file");
    std::fs::write(&file, &bytes).expect("written");
    let expect = pack_from_disk(&store_path('a', "file"), &file);
    for compression in ["none", "xz", "zstd", "bzip2", "gzip"] {
        let (files, facts) = CacheFiles::of_file(50, &bytes, compression);
        let honest = Server::start(files).await;
        for (lie, bytes) in lies(&facts) {
            let liar = lying(&facts, bytes).await;
            let alone = caches(&[&liar.url]);
            let error = nar_error(pack(&alone, &find(&alone, &facts.path).await).await);
            let text = error.to_string();
            assert!(
                error.to_be_replaced().is_none() && text.contains(&liar.url),
                "{compression}, {lie}: {text}"
            );

            let both = caches(&[&liar.url, &honest.url]);
            let found = find(&both, &facts.path).await;
            assert_eq!(found.sources.len(), 2, "{compression}, {lie}");
            let mut packed = pack(&both, &found).await;
            if let Err(error) = &packed {
                let error = NarError::of(error).unwrap_or_else(|| panic!("{compression}, {lie}: {error:?}"));
                assert!(error.to_be_replaced().is_some(), "{compression}, {lie}: {error}");
                packed = pack(&both, &found).await;
            }
            assert!(packed.is_ok_and(|packed| packed == expect), "{compression}, {lie}");
        }
    }
}

/// The cache is honest, but what was signed is no NAR.
#[tokio::test(flavor = "multi_thread")]
async fn a_signed_nar_may_be_malformed() {
    let nar = nar::of_file(&noise(SIZE, 5));
    for bad in [&nar[..nar.len() - 16], &nar[..SIZE / 2], b"no NAR", &[&nar[..], b"more"].concat()] {
        let mut files = CacheFiles::new(40);
        let path = store_path('a', "file");
        files.add(&path, bad, "zstd", &[]);
        let server = Server::start(files).await;
        let caches = caches(&[&server.url]);
        let error = pack(&caches, &find(&caches, &path).await).await.expect_err("malformed");
        assert!(NarError::of(&error).is_none(), "{error:?}");
        let chain = crate::error_chain::chain(&error);
        assert!(chain.contains("its NAR is malformed"), "{chain}");
    }
}

/// A stream that never ends and gives no byte: empty frames, of which every format allows any number.
#[tokio::test(flavor = "multi_thread")]
async fn endless_streams_end() {
    for compression in ["zstd", "gzip", "bzip2", "xz", "none"] {
        // The size of the file is not signed: nothing depends on it.
        for file_size in [None, Some(1 << 62)] {
            let (mut files, facts) = CacheFiles::of_file(40, b"small", compression);
            let file_size = file_size.or(facts.file_size);
            files.say(&Facts { file_size, ..facts.clone() }, Some(&facts.signature()));
            let server = Server::start(files).await;
            let frames = compress(b"", compression).repeat(4096);
            let frames = if frames.is_empty() { vec![0; 65536] } else { frames };
            server.fault(&facts.location, Fault::Endless(frames), usize::MAX);
            let caches = caches(&[&server.url]);
            let found = find(&caches, &facts.path).await;
            assert!(found.download_size() < 1000, "{}", found.download_size());
            let error = nar_error(pack(&caches, &found).await);
            assert!(error.to_string().contains("bytes"), "{compression}: {error}");
        }
    }
}

/// The file was replaced in the middle of the download.
#[tokio::test(flavor = "multi_thread")]
async fn a_nar_that_is_replaced_is_not_mixed() {
    let bytes = noise(SIZE, 5);
    let (files, facts) = CacheFiles::of_file(40, &bytes, "none");
    let mut other = files.0[&facts.location].clone();
    other[SIZE - 5] ^= 1;
    let server = Server::start(files).await;
    let caches = caches(&[&server.url]);
    let found = find(&caches, &facts.path).await;
    server.fault(&facts.location, Fault::Replace(300_000, other), 1);
    let error = nar_error(pack(&caches, &found).await);
    assert!(error.to_string().contains("replaced the file"), "{error}");
}

/// The first cache delivers a wrong beginning and then breaks; the second one is honest and notices.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_beginning_is_noticed_by_the_next_cache() {
    let bytes = noise(SIZE, 5);
    let (files, facts) = CacheFiles::of_file(50, &bytes, "none");
    let honest = Server::start(files.clone()).await;
    let mut wrong = files.0[&facts.location].clone();
    wrong[1000] ^= 1;
    let liar = lying(&facts, wrong).await;
    liar.fault(&facts.location, Fault::Cut(400_000), usize::MAX);
    let caches = caches(&[&liar.url, &honest.url]);
    let found = find(&caches, &facts.path).await;
    let error = nar_error(pack(&caches, &found).await);
    assert!(
        matches!(&error, NarError::Wrong { cache, has_other: true, .. } if *cache == liar.url),
        "{error:?}"
    );
    assert!(pack(&caches, &found).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_compression_is_no_reason_to_fail() {
    let bytes = noise(SIZE, 5);
    let (mut files, facts) = CacheFiles::of_file(40, &bytes, "none");
    let strange = Facts { compression: "lzip", ..facts.clone() };
    let (others, _) = CacheFiles::of_file(50, &bytes, "xz");
    files.say(&strange, Some(&facts.signature()));
    let (first, second) = (Server::start(files).await, Server::start(others).await);
    let caches = caches(&[&first.url, &second.url]);
    assert!(pack(&caches, &find(&caches, &facts.path).await).await.is_ok());
}

/// It may have been the network, or a disk that is full by now. Nothing of it is remembered if there is no other cache.
#[tokio::test(flavor = "multi_thread")]
async fn a_lie_does_not_make_a_path_unavailable() {
    let bytes = noise(SIZE, 5);
    let (files, facts) = CacheFiles::of_file(50, &bytes, "none");
    let honest = files.0[&facts.location].clone();
    let server = lying(&facts, vec![0; SIZE]).await;
    let caches = caches(&[&server.url]);
    let found = find(&caches, &facts.path).await;
    assert!(nar_error(pack(&caches, &found).await).to_be_replaced().is_none());
    server.change(|files| drop(files.0.insert(facts.location.clone(), honest)));
    assert!(pack(&caches, &found).await.is_ok());
}

/// The first cache is honest and breaks; the second one lies. Which of them is wrong shows when it is read from its
/// beginning.
#[tokio::test(flavor = "multi_thread")]
async fn a_lie_about_the_rest_is_found_out() {
    let bytes = noise(SIZE, 5);
    let (files, facts) = CacheFiles::of_file(30, &bytes, "none");
    let honest = Server::start(files.clone()).await;
    let mut wrong = files.0[&facts.location].clone();
    wrong[1000] ^= 1;
    let liar = lying(&facts, wrong).await;
    honest.without_ranges().fault(&facts.location, Fault::Cut(400_000), usize::MAX);
    let caches = caches(&[&honest.url, &liar.url]);
    let found = find(&caches, &facts.path).await;
    assert!(nar_error(pack(&caches, &found).await).to_be_replaced().is_some());
    honest.fault(&facts.location, Fault::Cut(0), 0);
    let error = nar_error(pack(&caches, &found).await);
    assert_eq!(error.to_be_replaced(), Some(&*liar.url));
    assert!(pack(&caches, &found).await.is_ok());
}

/// Whoever lies about one path comes last for all.
#[tokio::test(flavor = "multi_thread")]
async fn a_liar_is_not_believed_about_other_paths() {
    let [mut files, mut lies] = [50, 40].map(CacheFiles::new);
    let paths = ['a', 'b', 'c', 'd', 'f', 'g'].map(|letter| store_path(letter, "file"));
    for (seed, path) in paths.iter().enumerate() {
        let nar = nar::of_file(&noise(SIZE, seed as u64));
        let facts = files.add(path, &nar, "none", &[]);
        lies.add(path, &nar, "none", &[]);
        lies.0.insert(facts.location, vec![0; nar.len()]);
    }
    let (honest, liar) = (Server::start(files).await, Server::start(lies).await);
    let caches = caches(&[&liar.url, &honest.url]);
    let mut failures = 0;
    for path in &paths {
        let found = find(&caches, path).await;
        while let Err(error) = pack(&caches, &found).await {
            assert_eq!(NarError::of(&error).and_then(NarError::to_be_replaced), Some(&*liar.url));
            failures += 1;
        }
    }
    assert_eq!(failures, 1);
}
