//! Paths that are a hash of their content, so that nobody has to vouch for it; but their size is not proved.

use super::*;
use crate::packing::noise;
use fixture::Facts;

/// A path that proves its content, in a cache that does not sign it.
struct Proved {
    files: CacheFiles,
    facts: Facts,
    address: nix_derivation::CAHash,
}

impl Proved {
    fn new(nar: &[u8]) -> Self {
        let hash = nix_derivation::NixHash::parse(&fixture::nar_hash(nar)).expect("a hash");
        let address = nix_derivation::CAHash::Nar(hash);
        let built = nix_derivation::StoreDir::default().build_ca_path("name", &address, [].iter(), false);
        let path: StorePath = built.expect("a path").to_string().parse().expect("a store path");
        let mut files = CacheFiles::new(40);
        let facts = files.add(&path, nar, "none", &[]);
        Self { files, facts, address }
    }

    /// The cache, with these facts and this signature.
    async fn serve(&self, facts: &Facts, signature: Option<&str>) -> Server {
        let mut files = self.files.clone();
        let narinfo = format!("{}CA: {}\n", facts.narinfo(signature), self.address.to_nix_string());
        files.0.insert(format!("{}.narinfo", facts.path.hash_part()), narinfo.into_bytes());
        Server::start(files).await
    }

    fn of_size(&self, nar_size: usize) -> Facts {
        Facts { nar_size, file_size: None, ..self.facts.clone() }
    }
}

/// The error of a lookup.
async fn refusal(server: &Server, path: &StorePath) -> CacheFailure {
    let caches = caches(&[&server.url]);
    match caches.closure(std::slice::from_ref(path), &NoneKnown, &|_, _| {}).await {
        Err(BinaryCacheError::Unknown { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_addressed_paths_need_no_signature() {
    let proved = Proved::new(&nar::of_file(b"content"));
    let server = proved.serve(&proved.facts, None).await;
    let caches = caches(&[&server.url]);
    assert!(pack(&caches, &find(&caches, &proved.facts.path).await).await.is_ok());
    // The address is right, but the hash of the NAR is another.
    let other = Facts { nar_hash: fixture::nar_hash(b"else"), ..proved.facts.clone() };
    let failure = refusal(&proved.serve(&other, None).await, &other.path).await;
    assert!(matches!(failure, CacheFailure::Unsigned), "{failure:?}");
}

#[tokio::test]
async fn sizes_that_nobody_vouches_for_are_bounded() {
    let proved = Proved::new(&nar::of_file(b"content"));
    for size in [usize::MAX, usize::MAX - 128, (1 << 40) + 1] {
        let failure = refusal(&proved.serve(&proved.of_size(size), None).await, &proved.facts.path).await;
        assert!(matches!(failure, CacheFailure::Malformed(_)), "{size}: {failure:?}");
    }
    let large = proved.of_size((32 << 30) + 1);
    let failure = refusal(&proved.serve(&large, None).await, &large.path).await;
    assert!(matches!(failure, CacheFailure::Unsigned), "{failure:?}");
    let server = proved.serve(&large, Some(&large.signature())).await;
    assert_eq!(find(&caches(&[&server.url]), &large.path).await.info.nar_size, (32 << 30) + 1);
}

/// A cache that lies about the size shuts out no honest one, whether that signs or not, and whoever goes first.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_size_shuts_out_nobody() {
    let nar = nar::of_file(&noise(100_000, 1));
    let proved = Proved::new(&nar);
    let signature = proved.facts.signature();
    for size in [nar.len() + 8, nar.len() - 8, 1, 32 << 30] {
        let liar = proved.serve(&proved.of_size(size), None).await;
        for signature in [None, Some(&*signature)] {
            let honest = proved.serve(&proved.facts, signature).await;
            for urls in [[&*liar.url, &honest.url], [&honest.url, &liar.url]] {
                let caches = caches(&urls);
                let found = find(&caches, &proved.facts.path).await;
                if signature.is_some() {
                    assert_eq!((found.info.nar_size, found.sources.len()), (nar.len() as u64, 1), "{size}");
                }
                let mut packed = pack(&caches, &found).await;
                if let Err(error) = &packed {
                    let liar = Some(&*liar.url);
                    assert_eq!(NarError::of(error).and_then(NarError::to_be_replaced), liar, "{size}");
                    packed = pack(&caches, &found).await;
                }
                assert_eq!(packed.expect("packs").0.nar_size, nar.len() as u64, "{size}");
            }
        }
    }
}

/// Only the lie is on record.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_size_on_record_shuts_out_nobody() {
    let nar = nar::of_file(&noise(100_000, 1));
    let proved = Proved::new(&nar);
    let liar = proved.serve(&proved.of_size(nar.len() + 8), None).await;
    let honest = proved.serve(&proved.facts, Some(&proved.facts.signature())).await;
    let found = find(&caches(&[&liar.url]), &proved.facts.path).await;
    let both = caches(&[&liar.url, &honest.url]);
    let error = nar_error(pack(&both, &found).await);
    assert_eq!(error.to_be_replaced(), Some(&*liar.url), "{error}");
    assert!(pack(&both, &found).await.is_ok());
}
