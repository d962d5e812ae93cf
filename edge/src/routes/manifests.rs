//! `/v2/<name>/manifests/<reference>`: Cache API, then KV, then composing, then the backend.

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
    memory, pulls, repository,
    wanted::Wanted,
};
use firn_shared::{
    link::{
        edge_cache::{Freshness, TagPointer},
        protocol::AnswerSource,
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

/// Whether an error says neither what the image is now nor that there is none, nor that it is being built.
fn is_put_off(error: &OciError) -> bool {
    error.is_passing() && !error.is_of_running_build()
}

async fn by_tag(edge: &Rc<Edge>, wanted: &Wanted) -> Result<(Manifest, AnswerSource), OciError> {
    let key = Key::tag(edge, &wanted.image, &wanted.tag, wanted.format);
    if let Some(manifest) = key.get().await {
        return Ok((manifest, AnswerSource::Cache));
    }
    let Some((store, pointer)) = pointer(edge, &wanted.tag).await else {
        Limit::LookUps.check(edge).await?;
        return Ok((ask(edge, wanted).await?.manifest, AnswerSource::Backend));
    };
    let freshness = pointer.freshness(&wanted.tag, clock::now(), edge.config.tag_ttl_seconds);
    if freshness == Freshness::Stale {
        let asked = match Limit::LookUps.check(edge).await {
            Ok(()) => ask(edge, wanted).await,
            Err(refused) => Err(refused),
        };
        return match asked {
            Ok(fetched) => Ok((fetched.manifest, AnswerSource::Backend)),
            // An image that was right a while ago is better than none, unless a newer one is being made.
            Err(error) if is_put_off(&error) => known(edge, &store, &pointer, wanted).await?.ok_or(error),
            Err(error) => Err(error),
        };
    }
    let Some((manifest, source)) = known(edge, &store, &pointer, wanted).await? else {
        return Ok((ask(edge, wanted).await?.manifest, AnswerSource::Backend));
    };
    if freshness == Freshness::Aging {
        revalidate(edge, wanted.clone());
    } else {
        key.keep(edge, &manifest);
    }
    Ok((manifest, source))
}

/// What a tag named last, and where that is remembered.
async fn pointer(edge: &Edge, tag: &Tag) -> Option<(KvStore, TagPointer)> {
    let store = KvStore::open(&edge.env, &edge.config)?;
    let pointer = store.pointer(tag).await?;
    Some((store, pointer))
}

/// The image as it is in the package set that its tag named last: out of KV, or composed.
async fn known(
    edge: &Rc<Edge>,
    store: &KvStore,
    pointer: &TagPointer,
    wanted: &Wanted,
) -> Result<Option<(Manifest, AnswerSource)>, OciError> {
    let Wanted { image, format, .. } = wanted;
    let found = match store.manifest(&pointer.package_set, image, *format).await {
        Some(manifest) => Some((manifest, AnswerSource::Kv)),
        None => {
            Limit::LookUps.check(edge).await?;
            let composed = compose::by_tag(edge, &pointer.package_set, image, *format).await;
            composed.map(|manifest| (manifest, AnswerSource::Composed))
        }
    };
    if found.is_some() && compose::is_on(edge) {
        let (edge, wanted) = (edge.clone(), wanted.clone());
        edge.clone().later(async move {
            if let Some(store) = KvStore::open(&edge.env, &edge.config) {
                store.note_tag(&wanted.image, &wanted.tag).await;
            }
        });
    }
    Ok(found)
}

/// Asks the backend, together with everybody else who wants the same.
async fn ask(edge: &Rc<Edge>, wanted: &Wanted) -> Result<Fetched, OciError> {
    let fetched = flight::board(edge, wanted, Purpose::Answer).await?;
    Key::digest(edge, &fetched.manifest.metadata.digest).keep(edge, &fetched.manifest);
    Ok(fetched)
}

/// Asks the backend after the answer, unless that is being done.
fn revalidate(edge: &Rc<Edge>, wanted: Wanted) {
    if memory::begin_revalidation(wanted.tag.as_str()) {
        let edge = edge.clone();
        edge.clone().later(async move {
            // When it fails, the pointer ages on, and a request that needs it to be right will say so.
            let _ = flight::board(&edge, &wanted, Purpose::Refresh).await;
        });
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
