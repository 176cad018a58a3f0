//! HTTP by the page's `fetch`.

use std::time::Duration;

use futures_util::future::{Either, select};
use js_sys::{Function, Object, Promise, Reflect, Uint8Array};
use sha2::{Digest as _, Sha256};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, ReadableStreamDefaultReader, Response as JsResponse};

use super::error::set;
use super::timer;
use crate::weights::remote::{Failure, Request, Response, Transport};

/// How long a server may send nothing.
const STALL: Duration = Duration::from_secs(30);

/// `fetch`, and the signal that ends it.
pub(super) struct Fetch {
    function: Function,
    signal: Option<AbortSignal>,
}

impl Fetch {
    /// Uses `function`, or the global `fetch`.
    pub(super) fn new(function: Option<Function>, signal: Option<AbortSignal>) -> Option<Self> {
        let function = function.or_else(|| {
            Reflect::get(&js_sys::global(), &"fetch".into())
                .ok()?
                .dyn_into()
                .ok()
        })?;
        Some(Self { function, signal })
    }

    fn is_aborted(&self) -> bool {
        self.signal.as_ref().is_some_and(AbortSignal::aborted)
    }

    /// An abort, or a failure with a reason.
    fn failure(&self, reason: &JsValue) -> Failure {
        if self.is_aborted() {
            return Failure::Aborted;
        }
        let message = reason
            .dyn_ref::<js_sys::Error>()
            .map(js_sys::Error::message);
        Failure::Network(message.map_or_else(|| format!("{reason:?}"), String::from))
    }

    async fn send(&self, request: &Request) -> Result<JsResponse, Failure> {
        let headers = Object::new();
        if let Some(range) = &request.range {
            // The ETag of the answer is compared, so `If-Range` is left out: it would cost a
            // preflight, which not every server answers.
            let value = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
            set(&headers, "Range", value);
        }
        if let Some(token) = &request.token {
            set(&headers, "Authorization", format!("Bearer {token}"));
        }
        let init = Object::new();
        set(&init, "headers", headers);
        if let Some(signal) = &self.signal {
            set(&init, "signal", signal);
        }
        let promise = self
            .function
            .call2(&js_sys::global(), &request.url.as_str().into(), &init)
            .map_err(|error| self.failure(&error))?;
        let answer = self.before_stall(promise.unchecked_into()).await?;
        Ok(answer.unchecked_into())
    }

    /// Waits for a promise, but not for ever.
    async fn before_stall(&self, promise: Promise) -> Result<JsValue, Failure> {
        let stall = std::pin::pin!(timer::sleep(STALL));
        match select(JsFuture::from(promise), stall).await {
            Either::Left((result, _)) => result.map_err(|error| self.failure(&error)),
            Either::Right(_) => Err(Failure::Network(format!(
                "the server sent nothing for {} seconds",
                STALL.as_secs()
            ))),
        }
    }

    /// Reads the body piece by piece; a failure in the middle keeps what came before.
    async fn read_body(
        &self,
        response: &JsResponse,
        limit: usize,
        arrived: &dyn Fn(u64),
    ) -> Result<(Vec<u8>, Option<String>), Failure> {
        let mut body: Vec<u8> = Vec::new();
        let Some(stream) = response.body() else {
            return Ok((body, None));
        };
        let reader: ReadableStreamDefaultReader = stream.get_reader().unchecked_into();
        let cut = loop {
            let piece = match self.before_stall(reader.read()).await {
                Ok(piece) => piece,
                Err(Failure::Aborted) => return Err(Failure::Aborted),
                Err(Failure::Network(reason)) => break Some(reason),
            };
            let done = Reflect::get(&piece, &"done".into()).is_ok_and(|done| done.is_truthy());
            if done {
                break None;
            }
            let Ok(value) = Reflect::get(&piece, &"value".into()) else {
                break Some("the body can't be read".to_owned());
            };
            let value: Uint8Array = value.unchecked_into();
            let room = limit.saturating_add(1).saturating_sub(body.len());
            let length = value.length() as usize;
            let taken = length.min(room);
            let start = body.len();
            if body.try_reserve(taken).is_err() {
                break Some("memory ran out".to_owned());
            }
            body.resize(start + taken, 0);
            value.subarray(0, taken as u32).copy_to(&mut body[start..]);
            arrived(taken as u64);
            if taken < length {
                break None;
            }
        };
        // A body that is not read to its end would keep its connection.
        let _ = reader.cancel();
        Ok((body, cut))
    }
}

impl Transport for Fetch {
    async fn get(&self, request: Request, arrived: &dyn Fn(u64)) -> Result<Response, Failure> {
        if self.is_aborted() {
            return Err(Failure::Aborted);
        }
        let answer = self.send(&request).await?;
        let headers = answer.headers();
        let header = |name: &str| headers.get(name).ok().flatten();
        let (body, cut) = self.read_body(&answer, request.limit, arrived).await?;
        Ok(Response {
            status: answer.status(),
            etag: header("etag"),
            content_range: header("content-range"),
            content_type: header("content-type"),
            retry_after: header("retry-after"),
            redirected: answer.redirected(),
            // `fetch` decodes what is compressed.
            content_encoding: None,
            body,
            cut,
        })
    }

    async fn sleep(&self, duration: Duration) -> Result<(), Failure> {
        timer::sleep(duration).await;
        if self.is_aborted() {
            return Err(Failure::Aborted);
        }
        Ok(())
    }

    fn jitter(&self) -> f64 {
        js_sys::Math::random()
    }

    /// By the platform, which has instructions for it; pages without HTTPS have no such function.
    async fn sha256(&self, bytes: &[u8]) -> [u8; 32] {
        match digest(bytes).await {
            Some(hash) => hash,
            None => Sha256::digest(bytes).into(),
        }
    }
}

/// `crypto.subtle.digest('SHA-256', bytes)`
async fn digest(bytes: &[u8]) -> Option<[u8; 32]> {
    let get = |object: &JsValue, key: &str| Reflect::get(object, &key.into()).ok();
    let subtle = get(&get(&js_sys::global(), "crypto")?, "subtle")?;
    let function: Function = get(&subtle, "digest")?.dyn_into().ok()?;
    let promise = function
        .call2(&subtle, &"SHA-256".into(), &Uint8Array::from(bytes))
        .ok()?;
    let hash = JsFuture::from(promise.dyn_into::<Promise>().ok()?)
        .await
        .ok()?;
    Uint8Array::new(&hash).to_vec().try_into().ok()
}
