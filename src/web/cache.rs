//! Chunks in the Cache API of a page, a worker, or Deno.
//!
//! An entry is a response under an address of no server, `https://aim-web.invalid/REPOSITORY/CONTENT/ENTRY`,
//! whose headers carry its seal and its size. `www/package/src/cache.ts` lists and deletes them.

use std::cell::Cell;

use futures_util::future::{FutureExt as _, LocalBoxFuture};
use js_sys::{Array, Function, Promise, Reflect, Uint8Array};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Cache as JsCache, CacheStorage, Headers, Request, Response, ResponseInit};

use crate::hex::{from_hex, to_hex};
use crate::weights::remote::cache::{Cache, Key, Sealed};

/// The cache's name among those of the origin.
const NAME: &str = "aim-web";
const ORIGIN: &str = "https://aim-web.invalid/";
const SEAL: &str = "x-aim-seal";
const SIZE: &str = "x-aim-size";

/// What is left free of the origin's quota, for the page itself.
const RESERVE: f64 = (32_u32 << 20) as f64;

/// The cache of this origin.
pub(super) struct WebCache {
    cache: JsCache,
    /// Bytes that may still be kept; `None` where the browser does not say.
    quota_left: Cell<Option<f64>>,
}

impl WebCache {
    /// Opens the cache; `None` where there is none, as on pages without HTTPS.
    pub(super) async fn open() -> Option<Self> {
        Some(Self {
            cache: cache().await?,
            quota_left: Cell::new(quota_left().await),
        })
    }

    async fn read(&self, key: &Key) -> Option<Sealed> {
        let found = JsFuture::from(self.cache.match_with_str(&url(key)))
            .await
            .ok()?;
        let response: Response = found.dyn_into().ok()?;
        let seal = from_hex(&response.headers().get(SEAL).ok()??)?;
        let buffer = JsFuture::from(response.array_buffer().ok()?).await.ok()?;
        let bytes = Uint8Array::new(&buffer).to_vec();
        Some(Sealed { bytes, seal })
    }

    async fn write(&self, key: &Key, bytes: &[u8], seal: [u8; 32]) -> Result<(), String> {
        let size = bytes.len() as f64;
        if let Some(left) = self.quota_left.get() {
            if size > left {
                return Err("the browser's quota for this page is used up".to_owned());
            }
            self.quota_left.set(Some(left - size));
        }
        let reason = |error: JsValue| {
            let message = error.dyn_ref::<js_sys::Error>().map(js_sys::Error::message);
            message.map_or_else(|| format!("{error:?}"), String::from)
        };
        let headers = Headers::new().map_err(reason)?;
        headers.set(SEAL, &to_hex(&seal)).map_err(reason)?;
        headers
            .set(SIZE, &bytes.len().to_string())
            .map_err(reason)?;
        let init = ResponseInit::new();
        init.set_headers(&headers);
        // A copy outside the instance's memory, which may move.
        let body = Uint8Array::from(bytes);
        let response =
            Response::new_with_opt_js_u8_array_and_init(Some(&body), &init).map_err(reason)?;
        JsFuture::from(self.cache.put_with_str(&url(key), &response))
            .await
            .map_err(reason)?;
        Ok(())
    }

    async fn delete(&self, prefix: &str) {
        for request in requests(&self.cache).await {
            if request.url().starts_with(prefix) {
                let _ = JsFuture::from(self.cache.delete_with_request(&request)).await;
            }
        }
    }
}

impl Cache for WebCache {
    fn get<'a>(&'a self, key: &'a Key) -> LocalBoxFuture<'a, Option<Sealed>> {
        self.read(key).boxed_local()
    }

    fn put<'a>(
        &'a self,
        key: &'a Key,
        bytes: &'a [u8],
        seal: [u8; 32],
    ) -> LocalBoxFuture<'a, Result<(), String>> {
        self.write(key, bytes, seal).boxed_local()
    }

    fn remove<'a>(&'a self, repository: &'a str, content: &'a str) -> LocalBoxFuture<'a, ()> {
        async move {
            self.delete(&format!("{}{content}/", folder(repository)))
                .await;
        }
        .boxed_local()
    }
}

async fn cache() -> Option<JsCache> {
    let caches = Reflect::get(&js_sys::global(), &"caches".into()).ok()?;
    if caches.is_undefined() || caches.is_null() {
        return None;
    }
    let caches: CacheStorage = caches.unchecked_into();
    let cache = JsFuture::from(caches.open(NAME)).await.ok()?;
    // workerd's and older Deno's can't be listed, so nothing in them could be found again and deleted.
    let keys = Reflect::get(&cache, &"keys".into()).ok()?;
    keys.is_function().then(|| cache.unchecked_into())
}

/// What the browser would still let this origin keep.
async fn quota_left() -> Option<f64> {
    let get = |object: &JsValue, key: &str| {
        let value = Reflect::get(object, &key.into()).ok()?;
        (!value.is_undefined() && !value.is_null()).then_some(value)
    };
    let navigator = get(&js_sys::global(), "navigator")?;
    let storage = get(&navigator, "storage")?;
    let estimate: Function = get(&storage, "estimate")?.dyn_into().ok()?;
    let promise: Promise = estimate.call0(&storage).ok()?.dyn_into().ok()?;
    let estimate = JsFuture::from(promise).await.ok()?;
    let quota = get(&estimate, "quota")?.as_f64()?;
    let usage = get(&estimate, "usage")?.as_f64()?;
    Some(quota - usage - RESERVE)
}

async fn requests(cache: &JsCache) -> Vec<Request> {
    match JsFuture::from(cache.keys()).await {
        Ok(keys) => Array::from(&keys)
            .iter()
            .map(wasm_bindgen::JsCast::unchecked_into)
            .collect(),
        Err(_) => Vec::new(),
    }
}

/// The address in front of a model's entries.
fn folder(repository: &str) -> String {
    format!("{ORIGIN}{}/", js_sys::encode_uri_component(repository))
}

fn url(key: &Key) -> String {
    format!("{}{}/{}", folder(&key.repository), key.content, key.entry)
}
