//! The part of Workers KV that is used here. The `worker` crate's own API copies every value into Wasm and looks up
//! six functions for each. Here the values stay with the runtime.

use firn_shared::link::edge_cache::ManifestMetadata;
use serde::{Deserialize, de::DeserializeOwned};
use worker::Env;
use worker::js_sys::{ArrayBuffer, JSON, Object, Promise, Reflect, Uint8Array};
use worker::wasm_bindgen::{self, JsCast, JsValue, prelude::wasm_bindgen};
use worker::wasm_bindgen_futures::JsFuture;

#[wasm_bindgen]
extern "C" {
    /// A namespace.
    #[derive(Clone)]
    pub(crate) type Kv;

    #[wasm_bindgen(method, catch, js_name = getWithMetadata)]
    fn get_with_metadata(this: &Kv, key: &str, kind: &str) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn delete(this: &Kv, key: &str) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn list(this: &Kv, options: &Object) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn put(this: &Kv, key: &str, value: &JsValue, options: &Object) -> Result<Promise, JsValue>;

    /// The result of `getWithMetadata`.
    type Entry;
    #[wasm_bindgen(method, getter)]
    fn value(this: &Entry) -> JsValue;
    #[wasm_bindgen(method, getter)]
    fn metadata(this: &Entry) -> JsValue;
}

/// How many pages of keys are read. A page has a thousand keys.
const MAX_PAGES: usize = 10;

/// The result of `list`.
#[derive(Deserialize)]
struct Page {
    keys: Vec<Key>,
    list_complete: bool,
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct Key {
    name: String,
}

impl Kv {
    /// The namespace that is bound to a name, if there is one.
    pub(crate) fn bound(env: &Env, name: &str) -> Option<Self> {
        let value = Reflect::get(env, &JsValue::from_str(name)).ok()?;
        (!value.is_undefined()).then(|| value.unchecked_into())
    }

    /// A text value. None if the key does not exist.
    ///
    /// # Errors
    /// If KV cannot be read.
    pub(crate) async fn text(&self, key: &str) -> Result<Option<String>, worker::Error> {
        Ok(self.get(key, "text").await?.value().as_string())
    }

    /// Bytes and their metadata. None if the key does not exist or has other values.
    ///
    /// # Errors
    /// If KV cannot be read.
    pub(crate) async fn bytes<M: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<(ArrayBuffer, M)>, worker::Error> {
        let entry = self.get(key, "arrayBuffer").await?;
        let metadata = JSON::stringify(&entry.metadata()).ok().and_then(|text| text.as_string());
        let metadata = metadata.and_then(|text| serde_json::from_slice(text.as_bytes()).ok());
        Ok(entry.value().dyn_into().ok().zip(metadata))
    }

    /// Bytes without metadata. None if the key does not exist.
    ///
    /// # Errors
    /// If KV cannot be read.
    pub(crate) async fn plain_bytes(&self, key: &str) -> Result<Option<Vec<u8>>, worker::Error> {
        let value = self.get(key, "arrayBuffer").await?.value();
        Ok(value.dyn_into::<ArrayBuffer>().ok().map(|bytes| Uint8Array::new(&bytes).to_vec()))
    }

    /// Writes bytes that expire after `seconds`.
    ///
    /// # Errors
    /// See [`Kv::put_text`].
    pub(crate) async fn put_plain_bytes(
        &self,
        key: &str,
        bytes: &[u8],
        seconds: u64,
    ) -> Result<(), worker::Error> {
        let options = Object::new();
        Reflect::set(&options, &JsValue::from_str("expirationTtl"), &JsValue::from_f64(seconds as f64))?;
        JsFuture::from(self.put(key, &Uint8Array::from(bytes), &options)?).await?;
        Ok(())
    }

    /// The keys that begin with `prefix`, without the prefix, sorted. At most [`MAX_PAGES`] pages of them.
    ///
    /// # Errors
    /// If KV cannot be read.
    pub(crate) async fn list_suffixes(&self, prefix: &str) -> Result<Vec<String>, worker::Error> {
        let mut suffixes = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut options = serde_json::json!({ "prefix": prefix });
            if let Some(cursor) = &cursor {
                options["cursor"] = serde_json::json!(cursor);
            }
            let options = JSON::parse(&options.to_string())?;
            let page = JsFuture::from(self.list(options.unchecked_ref())?).await?;
            let page = JSON::stringify(&page)?.as_string().unwrap_or_default();
            let page: Page = serde_json::from_slice(page.as_bytes())?;
            suffixes
                .extend(page.keys.iter().filter_map(|key| key.name.strip_prefix(prefix)).map(str::to_owned));
            cursor = page.cursor;
            if page.list_complete || cursor.is_none() {
                break;
            }
        }
        Ok(suffixes)
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// See [`Kv::put_text`].
    pub(crate) async fn remove(&self, key: &str) -> Result<(), worker::Error> {
        JsFuture::from(self.delete(key)?).await?;
        Ok(())
    }

    /// Writes a text.
    ///
    /// # Errors
    /// If KV cannot be written, for example more than once a second to one key.
    pub(crate) async fn put_text(&self, key: &str, text: &str) -> Result<(), worker::Error> {
        JsFuture::from(self.put(key, &JsValue::from_str(text), &Object::new())?).await?;
        Ok(())
    }

    /// Writes bytes that expire after `seconds`, with metadata.
    ///
    /// # Errors
    /// See [`Kv::put_text`].
    pub(crate) async fn put_bytes(
        &self,
        key: &str,
        bytes: &ArrayBuffer,
        metadata: &ManifestMetadata,
        seconds: u64,
    ) -> Result<(), worker::Error> {
        let options = serde_json::json!({ "metadata": metadata, "expirationTtl": seconds }).to_string();
        let options = JSON::parse(&options)?;
        JsFuture::from(self.put(key, bytes, options.unchecked_ref())?).await?;
        Ok(())
    }

    async fn get(&self, key: &str, kind: &str) -> Result<Entry, worker::Error> {
        Ok(JsFuture::from(self.get_with_metadata(key, kind)?).await?.unchecked_into())
    }
}
