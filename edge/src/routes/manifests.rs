//! `/v2/<name>/manifests/<reference>`: Cache API, then KV, then composing, then the backend.
//!
//! A tag leads to a package set (`tag_pointer`), and the package set and the name lead to the manifest.

use crate::{
    Failure,
    answer::{self, Answer},
    backend,
    cache::Key,
    clock, compose,
    config::Access,
    edge::Edge,
    flight::{self, Purpose},
    kv_store::KvStore,
    limit::Limit,
    manifest::{Fetched, Manifest},
    memory, pulls, renewal, repository,
    tag::Sighting,
    tag_pointer,
    wanted::Wanted,
};
use firn_shared::{
    link::{
        edge_cache::{digest_key, manifest_key, request_key},
        protocol::{AnswerSource, ImageSetId},
        tag_pointer::{Choice, TagPointer},
        waiting,
    },
    naming::image_name::ImageName,
    oci::{
        digest::Digest,
        endpoint::Method,
        error::{ErrorCode, OciError},
        media_type::ManifestFormat,
        reference::{Reference, Tag},
        repository_name::RepositoryName,
        request::Request,
    },
};
use std::rc::Rc;

/// Answers a request for a manifest.
pub(crate) async fn manifests(
    edge: &Rc<Edge>,
    request: &Request<'_>,
    name: &RepositoryName,
    reference: &Reference,
) -> Result<Answer, Failure> {
    let (manifest, source) = match reference {
        Reference::Digest(digest) => {
            let found = by_digest(edge, name, *digest).await?;
            if let Access::Private(_) = edge.config.access {
                // It may be known from an index alone.
                repository::note(edge, &ImageName::of(name)?, &found.0).await?;
            }
            // Which tag the client followed is not known; it is the default one nearly always.
            let format = ManifestFormat::negotiate(Some(found.0.metadata.media_type.as_str()));
            let wanted = || Some(Wanted { image: ImageName::of(name).ok()?, tag: Tag::default(), format });
            pulls::note(edge, &found.0, found.1, wanted);
            found
        }
        Reference::Tag(tag) if tag.is_of_referrers() => {
            return super::referrers_by_tag(edge, request, name, tag).await;
        }
        Reference::Tag(tag) => {
            let wanted = Wanted { image: ImageName::of(name)?, tag: tag.clone(), format: request.format };
            let found = match by_tag(edge, &wanted).await {
                Err(error) => return wait_or_refuse(edge, error),
                Ok(found) => found,
            };
            repository::note(edge, &wanted.image, &found.0).await?;
            pulls::note(edge, &found.0, found.1, || Some(wanted));
            found
        }
    };
    if manifest.metadata.composed {
        compose::kept::learn(edge, &manifest);
    }
    Ok(answer::manifest(request, manifest, source))
}

/// What a client is told who gets no manifest: to go on waiting, if the image is being built and the client would
/// give up otherwise.
fn wait_or_refuse(edge: &Edge, error: OciError) -> Result<Answer, Failure> {
    match waiting::wait_again(&error, || edge.header("user-agent"), edge.path(), edge.query()) {
        Some(response) => Ok(response.into()),
        None => Err(error.into()),
    }
}

async fn by_tag(edge: &Rc<Edge>, wanted: &Wanted) -> Result<(Manifest, AnswerSource), OciError> {
    let Some(known) = tag_pointer::current(edge, &wanted.tag).await? else {
        Limit::LookUps.check(edge).await?;
        return fetch(edge, wanted, None).await;
    };
    let image = || request_key(&wanted.image, &wanted.tag, wanted.format);
    let found = match known.choice(image, clock::now(), edge.config.tag_ttl_seconds) {
        Choice::Only(new) => find(edge, new, wanted).await?,
        Choice::Previous { previous, new } => match kept(edge, previous, wanted).await {
            Some(found) => Some(found),
            None => find(edge, new, wanted).await?,
        },
        Choice::New { new, previous } => match cached(edge, new, wanted).await {
            Some(found) => Some(found),
            None => change(edge, new, previous, wanted, &known).await?,
        },
    };
    match found {
        Some(found) => {
            note_tag(edge, wanted);
            Ok(found)
        }
        None => fetch(edge, wanted, Some(&known)).await,
    }
}

/// The image of a tag that has moved, if it is known: the new one or, while it is being made, the previous one.
async fn change(
    edge: &Rc<Edge>,
    new: &ImageSetId,
    previous: &ImageSetId,
    wanted: &Wanted,
    known: &TagPointer,
) -> Result<Option<(Manifest, AnswerSource)>, OciError> {
    let what = manifest_key(new, &wanted.image, wanted.format).to_string();
    let before = kept(edge, previous, wanted).await;
    // The new image is looked for once in a while, and meanwhile the backend is asked for it.
    if memory::begin_revalidation(&what) {
        match find(edge, new, wanted).await {
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => {}
            // The client may look for no new images now, but what is cached is not limited.
            Err(refused) => return before.map(Some).ok_or(refused),
        }
        // Nothing is asked for in the background that nobody had before: it would count against no limit.
        if memory::is_ended(&what) || before.is_none() {
            return Ok(None);
        }
        let (edge, wanted, known) = (edge.clone(), wanted.clone(), known.clone());
        edge.clone().later(async move {
            match flight::board(&edge, &wanted, Purpose::Refresh, Some(&known)).await {
                Ok(fetched) => keep(&edge, &wanted, &fetched),
                // There is no such image any longer, and clients must be told so.
                Err(error) if !error.is_passing() => memory::end(&what),
                Err(_) => {}
            }
        });
    } else if memory::is_ended(&what) {
        return find(edge, new, wanted).await;
    }
    match before {
        Some(found) => Ok(Some(found)),
        None => find(edge, new, wanted).await,
    }
}

/// The image in a package set, if a cache or KV has it, or if it can be composed.
async fn find(
    edge: &Rc<Edge>,
    set: &ImageSetId,
    wanted: &Wanted,
) -> Result<Option<(Manifest, AnswerSource)>, OciError> {
    if let Some(found) = kept(edge, set, wanted).await {
        return Ok(Some(found));
    }
    let Wanted { image, format, .. } = wanted;
    Limit::LookUps.check(edge).await?;
    let Some(manifest) = compose::by_tag(edge, set, image, *format).await else { return Ok(None) };
    Key::image(edge, set, image, *format).keep(edge, &manifest);
    Ok(Some((manifest, AnswerSource::Composed)))
}

/// The image in a package set, if a cache or KV has it.
async fn kept(edge: &Rc<Edge>, set: &ImageSetId, wanted: &Wanted) -> Option<(Manifest, AnswerSource)> {
    if let Some(found) = cached(edge, set, wanted).await {
        return Some(found);
    }
    let Wanted { image, format, .. } = wanted;
    let manifest = KvStore::open(&edge.env, &edge.config)?.manifest(set, image, *format).await?;
    Key::image(edge, set, image, *format).keep(edge, &manifest);
    // Clients ask for the digest next.
    Key::digest(edge, &manifest.metadata.digest).keep(edge, &manifest);
    renewal::note(edge, manifest_key(set, image, *format), &manifest);
    Some((manifest, AnswerSource::Kv))
}

/// The image in a package set, if the caches of this location have it.
async fn cached(edge: &Edge, set: &ImageSetId, wanted: &Wanted) -> Option<(Manifest, AnswerSource)> {
    let manifest = Key::image(edge, set, &wanted.image, wanted.format).get().await?;
    Some((manifest, AnswerSource::Cache))
}

/// Notes that the image is served by this tag although the backend may not know of it, so that the tag is listed.
fn note_tag(edge: &Rc<Edge>, wanted: &Wanted) {
    if !wanted.tag.is_latest() && compose::is_on(edge) {
        let (edge, wanted) = (edge.clone(), wanted.clone());
        edge.clone().later(async move {
            if let Some(store) = KvStore::open(&edge.env, &edge.config) {
                store.note_tag(&edge, &wanted.image, &wanted.tag).await;
            }
        });
    }
}

/// Asks the backend, together with everybody else who wants the same.
async fn fetch(
    edge: &Rc<Edge>,
    wanted: &Wanted,
    known: Option<&TagPointer>,
) -> Result<(Manifest, AnswerSource), OciError> {
    let fetched = flight::board(edge, wanted, Purpose::Answer, known).await?;
    keep(edge, wanted, &fetched);
    Ok((fetched.manifest, AnswerSource::Backend))
}

/// Caches an answer of the backend, so that this location finds it at once. KV may say for a minute that it is not there.
fn keep(edge: &Edge, wanted: &Wanted, fetched: &Fetched) {
    let Fetched { manifest, package_set, asked } = fetched;
    Key::digest(edge, &manifest.metadata.digest).keep(edge, manifest);
    if let Some(package_set) = package_set {
        Key::image(edge, package_set, &wanted.image, wanted.format).keep(edge, manifest);
        let sighting = Sighting { package_set: package_set.clone(), asked: *asked };
        tag_pointer::learn(edge, &wanted.tag, sighting);
    }
}

async fn by_digest(
    edge: &Rc<Edge>,
    name: &RepositoryName,
    digest: Digest,
) -> Result<(Manifest, AnswerSource), OciError> {
    if let Access::Private(_) = edge.config.access {
        repository::check(edge, &ImageName::of(name)?, &digest, ErrorCode::ManifestUnknown).await?;
    }
    let key = Key::digest(edge, &digest);
    if let Some(manifest) = key.get().await {
        return Ok((manifest, AnswerSource::Cache));
    }
    let store = KvStore::open(&edge.env, &edge.config);
    if let Some(store) = &store
        && let Some(manifest) = store.by_digest(&digest).await
    {
        key.keep(edge, &manifest);
        renewal::note(edge, digest_key(&digest), &manifest);
        return Ok((manifest, AnswerSource::Kv));
    }
    Limit::LookUps.check(edge).await?;
    if let Some(manifest) = compose::by_digest(edge, name, &digest).await {
        key.keep(edge, &manifest);
        return Ok((manifest, AnswerSource::Composed));
    }
    let path = format!("/v2/{name}/manifests/{digest}");
    let (accept, client) = (edge.accept(), edge.client());
    let question = backend::Question {
        accept: accept.as_deref(),
        client: client.as_deref(),
        ..backend::Question::about(Method::Get, &path)
    };
    let fetched = backend::manifest(&edge.config, question, Some(&digest)).await?;
    key.keep(edge, &fetched.manifest);
    if let Some(store) = store {
        let copy = fetched.manifest.clone();
        edge.later(async move { store.learn_digest(&copy).await });
    }
    Ok((fetched.manifest, AnswerSource::Backend))
}
