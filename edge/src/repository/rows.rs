//! The Durable Object of a name: one row for each manifest, with the digests that it refers to.

use crate::belonging::{self, Belonging};
use firn_shared::oci::digest::Digest;
use std::cell::RefCell;
use std::collections::HashMap;
use worker::js_sys::{Array, Uint8Array};
use worker::wasm_bindgen::JsCast;
use worker::{DurableObject, Env, Method, Request, Response, State, durable_object};

/// The rows of the manifests of a name, as they are stored: the entry of the manifest itself comes first.
type Rows = HashMap<Digest, Vec<u8>>;

/// The digests of one name.
#[durable_object(fetch)]
pub struct Repository {
    state: State,
    /// All rows, once they have been read.
    rows: RefCell<Option<Rows>>,
}

impl DurableObject for Repository {
    fn new(state: State, _env: Env) -> Self {
        Self { state, rows: RefCell::default() }
    }

    /// `POST /` adds the row of a manifest, and answers with the rows of the manifests that it lists, as far as they are
    /// known. `GET /<digest>` answers with a row that has the digest, or 404.
    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        self.load().await?;
        if request.method() == Method::Post {
            let row = request.bytes().await?;
            return Response::from_bytes(self.add(row).await?);
        }
        let digest = request.path().trim_start_matches('/').parse::<Digest>();
        match digest.ok().and_then(|digest| self.with_rows(|rows| find(rows, &digest).cloned())) {
            Some(row) => Response::from_bytes(row),
            None => Ok(Response::empty()?.with_status(404)),
        }
    }
}

impl Repository {
    /// Reads the rows when the object is first used.
    async fn load(&self) -> worker::Result<()> {
        if self.rows.borrow().is_some() {
            return Ok(());
        }
        let stored = self.state.storage().list().await?;
        let rows = stored.entries().into_iter().flatten().filter_map(|entry| {
            let entry: Array = entry.dyn_into().ok()?;
            let row = entry.get(1).dyn_into::<Uint8Array>().ok()?.to_vec();
            let (manifest, _) = belonging::decode(&row).next()?;
            Some((manifest, row))
        });
        // Another request may have read them, and added one, meanwhile.
        self.rows.borrow_mut().get_or_insert_with(|| rows.collect());
        Ok(())
    }

    fn with_rows<T>(&self, work: impl FnOnce(&mut Rows) -> T) -> T {
        work(self.rows.borrow_mut().get_or_insert_default())
    }

    /// Stores a row, unless it is known. Returns the rows of the manifests that it lists.
    async fn add(&self, row: Vec<u8>) -> worker::Result<Vec<u8>> {
        let listed = |rows: &mut Rows| -> Vec<u8> {
            let listed = belonging::decode(&row).filter(|(_, belonging)| *belonging == Belonging::Listed);
            listed.filter_map(|(manifest, _)| rows.get(&manifest)).flatten().copied().collect()
        };
        let listed = self.with_rows(listed);
        let manifest = belonging::decode(&row).next().map(|(manifest, _)| manifest);
        if let Some(manifest) = manifest
            && self.with_rows(|rows| rows.get(&manifest) != Some(&row))
        {
            let value = Uint8Array::from(row.as_slice());
            self.state.storage().put_raw(&manifest.hex(), value).await?;
            self.with_rows(|rows| rows.insert(manifest, row));
        }
        Ok(listed)
    }
}

/// A row that has a digest: the manifest's own, else one in which it is more than listed, else any.
fn find<'a>(rows: &'a Rows, digest: &Digest) -> Option<&'a Vec<u8>> {
    let with = |least| {
        let mut rows = rows.values();
        rows.find(|row| belonging::decode(row).any(|(known, how)| known == *digest && how >= least))
    };
    rows.get(digest).or_else(|| with(Belonging::Noted)).or_else(|| with(Belonging::Listed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_row_that_says_most() {
        let [index, manifest, layer, other] = [b"i", b"m", b"l", b"o"].map(|text| Digest::of(text));
        let index_row = belonging::encode(&[(index, Belonging::Noted), (manifest, Belonging::Listed)]);
        let row = belonging::encode(&[(manifest, Belonging::Noted), (layer, Belonging::Noted)]);
        let mut rows = Rows::from([(index, index_row.clone())]);
        assert_eq!(find(&rows, &manifest), Some(&index_row));
        assert_eq!(find(&rows, &layer), None);
        rows.insert(manifest, row.clone());
        for digest in [manifest, layer] {
            assert_eq!(find(&rows, &digest), Some(&row));
        }
        assert_eq!(find(&rows, &other), None);
    }
}
