//! HTTP by the page's `fetch`.

use std::time::Duration;

use futures_util::future::{Either, select};
use js_sys::{Function, Object, Promise, Reflect, TypeError, Uint8Array};
use sha2::{Digest as _, Sha256};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortController, AbortSignal, ReadableStreamDefaultReader, Response as JsResponse};

use super::error::set;
use super::timer;
use crate::weights::remote::stall::{Timeouts, Window};
use crate::weights::remote::{Failure, Request, Response, Transport};

/// `fetch`, and the signal that ends it.
pub(super) struct Fetch {
    function: Function,
    signal: Option<AbortSignal>,
    timeouts: Timeouts,
    /// Whether the browser's own HTTP cache may keep ranges.
    may_keep: bool,
}

impl Fetch {
    /// Uses `function`, or the global `fetch`. Without `may_keep` the browser's own HTTP cache keeps no
    /// weights: they would push everything else out of it.
    pub(super) fn new(
        function: Option<Function>,
        signal: Option<AbortSignal>,
        timeouts: Timeouts,
        may_keep: bool,
    ) -> Option<Self> {
        let function = function.or_else(|| {
            Reflect::get(&js_sys::global(), &"fetch".into())
                .ok()?
                .dyn_into()
                .ok()
        })?;
        Some(Self {
            function,
            signal,
            timeouts,
            may_keep: may_keep || !knows_cache_modes(),
        })
    }

    fn is_aborted(&self) -> bool {
        self.signal.as_ref().is_some_and(AbortSignal::aborted)
    }

    /// An abort, or a failure with a reason.
    fn failure(&self, reason: &JsValue) -> Failure {
        if self.is_aborted() {
            return Failure::Aborted;
        }
        let mut message = reason
            .dyn_ref::<js_sys::Error>()
            .map_or_else(|| format!("{reason:?}"), |error| error.message().into());
        if reason.is_instance_of::<TypeError>() {
            message.push_str(
                " (a browser tells a page no more: is the server in reach, does it allow this origin by CORS, \
                 does it send parts of files uncompressed?)",
            );
        }
        Failure::Network(message)
    }

    async fn send(
        &self,
        request: &Request,
        connection: &Connection,
    ) -> Result<JsResponse, Failure> {
        let init = Object::new();
        let headers = Object::new();
        if let Some(range) = &request.range {
            // The ETag of the answer is compared, so `If-Range` is left out: it would cost a
            // preflight, which not every server answers.
            let value = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
            set(&headers, "Range", value);
            if !self.may_keep {
                set(&init, "cache", "no-store");
            }
        }
        if let Some(token) = &request.token {
            set(&headers, "Authorization", format!("Bearer {token}"));
        }
        set(&init, "headers", headers);
        set(&init, "signal", connection.controller.signal());
        let promise = self
            .function
            .call2(&js_sys::global(), &request.url.as_str().into(), &init)
            .map_err(|error| self.failure(&error))?;
        let answer = self.before_stall(promise.unchecked_into()).await?;
        Ok(answer.unchecked_into())
    }

    /// Waits for a promise, but not for ever.
    async fn before_stall(&self, promise: Promise) -> Result<JsValue, Failure> {
        let stall = std::pin::pin!(timer::sleep(self.timeouts.stall));
        match select(JsFuture::from(promise), stall).await {
            Either::Left((result, _)) => result.map_err(|error| self.failure(&error)),
            Either::Right(_) => Err(Failure::Network(self.timeouts.too_slow())),
        }
    }

    /// Reads the body piece by piece, up to a byte over `limit`; a failure in the middle keeps what
    /// came before.
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
        let most = limit.saturating_add(1);
        let now = || Duration::try_from_secs_f64(timer::now() / 1000.0).unwrap_or_default();
        let mut window = Window::new(&self.timeouts, now(), 0);
        let cut = loop {
            let piece = match self.before_stall(reader.read()).await {
                Ok(piece) => piece,
                Err(Failure::Aborted) => return Err(Failure::Aborted),
                Err(Failure::Network(reason) | Failure::Final(reason)) => break Some(reason),
            };
            let done = Reflect::get(&piece, &"done".into()).is_ok_and(|done| done.is_truthy());
            if done {
                break None;
            }
            let Ok(value) = Reflect::get(&piece, &"value".into()) else {
                break Some("the body can't be read".to_owned());
            };
            let value: Uint8Array = value.unchecked_into();
            let start = body.len();
            let taken = (value.length() as usize).min(most.saturating_sub(start));
            if body.try_reserve(taken).is_err() {
                break Some("memory ran out".to_owned());
            }
            body.resize(start + taken, 0);
            value.subarray(0, taken as u32).copy_to(&mut body[start..]);
            arrived(taken as u64);
            if body.len() == most {
                break None;
            }
            if window.is_stalled(now(), body.len()) {
                break Some(self.timeouts.too_slow());
            }
        };
        Ok((body, cut))
    }
}

/// Whether `fetch` takes the option `cache`; older versions of workerd refuse it.
fn knows_cache_modes() -> bool {
    Reflect::get(&js_sys::global(), &"Request".into())
        .and_then(|class| Reflect::get(&class, &"prototype".into()))
        .and_then(|prototype| Reflect::has(&prototype, &"cache".into()))
        .unwrap_or(false)
}

/// One request under way: ended when it is dropped, or when the caller gives up.
struct Connection {
    controller: AbortController,
    /// The caller's signal, and what listens to it.
    follows: Option<(AbortSignal, Function)>,
}

impl Connection {
    fn new(signal: Option<&AbortSignal>) -> Result<Self, Failure> {
        let broken = |_| Failure::Network("there is no AbortController here".to_owned());
        let controller = AbortController::new().map_err(broken)?;
        let follows = signal.and_then(|signal| {
            let abort = Reflect::get(&controller, &"abort".into()).ok()?;
            let abort: Function = abort.dyn_into().ok()?;
            let abort = abort.bind0(&controller);
            signal
                .add_event_listener_with_callback("abort", &abort)
                .ok()?;
            Some((signal.clone(), abort))
        });
        Ok(Self {
            controller,
            follows,
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some((signal, abort)) = &self.follows {
            let _ = signal.remove_event_listener_with_callback("abort", abort);
        }
        // A body that is not read to its end would keep its connection.
        self.controller.abort();
    }
}

impl Transport for Fetch {
    async fn get(&self, request: Request, arrived: &dyn Fn(u64)) -> Result<Response, Failure> {
        if self.is_aborted() {
            return Err(Failure::Aborted);
        }
        let connection = Connection::new(self.signal.as_ref())?;
        let answer = self.send(&request, &connection).await?;
        let headers = answer.headers();
        let header = |name: &str| headers.get(name).ok().flatten();
        let (body, cut) = self.read_body(&answer, request.limit, arrived).await?;
        Ok(Response {
            status: answer.status(),
            etag: header("etag"),
            content_range: header("content-range"),
            retry_after: header("retry-after"),
            rate_limit: header("ratelimit"),
            error_code: header("x-error-code"),
            redirected_to: answer.redirected().then(|| answer.url()),
            // `fetch` decodes what is compressed: a whole file comes out right, but what it makes of a
            // part need not be that part of the file. Parts whose encoding CORS hides show
            // by their lengths.
            content_encoding: header("content-encoding").filter(|_| answer.status() == 206),
            body,
            cut,
        })
    }

    async fn sleep(&self, duration: Duration) -> Result<(), Failure> {
        timer::sleep(duration.min(self.timeouts.longest_wait)).await;
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
