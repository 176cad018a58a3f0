//! HTTP natively: reqwest on a thread of its own, so that any executor may wait for it.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::env;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderName,
    IF_RANGE, LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::{Client, Url, redirect};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::stall::{Timeouts, Window};
use super::transport::{Failure, Request, Response, Transport};
use crate::error::{Error, ErrorKind, Result};

/// How many redirects are followed. The hub needs one or two, for a renamed repository one more.
const REDIRECTS: usize = 5;

/// Why the hub refuses a request.
const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");

/// What the hub allows of requests, and when more of them.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// A client for any number of requests at once.
#[derive(Debug)]
pub struct Http {
    runtime: Runtime,
    client: Client,
    timeouts: Timeouts,
    /// Why no server may be asked.
    offline: Option<String>,
    signed: Arc<Signed>,
}

/// Where files were last found that are asked for in parts: a hub counts how often it is asked for an address, and one that it
/// has signed serves all parts of a file for a while.
#[derive(Debug, Default)]
struct Signed(Mutex<HashMap<String, Url>>);

impl Signed {
    fn of(&self, request: &Request) -> Option<Url> {
        request.range.as_ref()?;
        self.lock().get(&request.url).cloned()
    }

    /// Notes what an address answered that `request` was redirected to.
    fn note(&self, request: &Request, url: &Url, status: u16) {
        if request.range.is_none() {
            return;
        }
        if matches!(status, 200 | 206) {
            self.lock().insert(request.url.clone(), url.clone());
        } else {
            self.forget(request);
        }
    }

    fn forget(&self, request: &Request) {
        self.lock().remove(&request.url);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Url>> {
        // An entry is there or not, whatever befell who put it there.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Http {
    /// Starts the thread; proxies are taken from the environment, as curl does it.
    ///
    /// # Errors
    /// [`ErrorKind::Network`] if the system gives no thread or TLS can't be set up.
    pub fn new(timeouts: Timeouts) -> Result<Self> {
        let broken = |error: String| {
            Error::new(
                ErrorKind::Network,
                format!("HTTP can't be used here: {error}"),
            )
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("http")
            .enable_all()
            .build()
            .map_err(|error| broken(error.to_string()))?;
        let client = Client::builder()
            // A redirect leaves the token behind: see `send`.
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .user_agent(concat!("aim-web/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| broken(reason(&error)))?;
        Ok(Self {
            runtime,
            client,
            timeouts,
            offline: None,
            signed: Arc::default(),
        })
    }

    /// From here on, asks no server: every request fails at once, for this reason.
    #[must_use]
    pub fn offline(mut self, reason: impl Into<String>) -> Self {
        self.offline = Some(reason.into());
        self
    }
}

impl Transport for Http {
    async fn get(&self, request: Request, arrived: &dyn Fn(u64)) -> Result<Response, Failure> {
        if let Some(reason) = &self.offline {
            return Err(Failure::Final(reason.clone()));
        }
        let (sender, mut receiver) = unbounded_channel();
        let client = self.client.clone();
        let timeouts = self.timeouts;
        let signed = Arc::clone(&self.signed);
        let mut task = Task(
            self.runtime
                .spawn(async move { get(&client, request, timeouts, &signed, &sender).await }),
        );
        while let Some(bytes) = receiver.recv().await {
            arrived(bytes);
        }
        (&mut task.0)
            .await
            .map_err(|_| Failure::Network("the request was broken off".to_owned()))?
    }

    async fn sleep(&self, duration: Duration) -> Result<(), Failure> {
        let duration = duration.min(self.timeouts.longest_wait);
        let mut task = Task(
            self.runtime
                .spawn(async move { tokio::time::sleep(duration).await }),
        );
        // It can't fail; and if it did, the wait would be over.
        let _ = (&mut task.0).await;
        Ok(())
    }

    fn jitter(&self) -> f64 {
        let number = RandomState::new().build_hasher().finish();
        number as f64 / u64::MAX as f64
    }
}

/// A task that ends when nobody waits for it any more.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One request to its end.
async fn get(
    client: &Client,
    request: Request,
    timeouts: Timeouts,
    signed: &Signed,
    arrived: &UnboundedSender<u64>,
) -> Result<Response, Failure> {
    let first = Url::parse(&request.url)
        .map_err(|error| Failure::Final(format!("this is no address: {error}")))?;
    if let Some(url) = signed.of(&request) {
        let known = ask(client, &request, url, &first, timeouts, signed, arrived).await;
        match known {
            // It may have expired.
            Ok(Response {
                status: 400 | 401 | 403 | 404 | 410,
                ..
            }) => {}
            known => {
                if known.is_err() {
                    signed.forget(&request);
                }
                return known;
            }
        }
    }
    let url = first.clone();
    ask(client, &request, url, &first, timeouts, signed, arrived).await
}

/// Asks an address and those that it redirects to.
async fn ask(
    client: &Client,
    request: &Request,
    mut url: Url,
    first: &Url,
    timeouts: Timeouts,
    signed: &Signed,
    arrived: &UnboundedSender<u64>,
) -> Result<Response, Failure> {
    for _ in 0..=REDIRECTS {
        let answer = timeout(timeouts.stall, send(client, request, &url, first))
            .await
            .map_err(|_| timeouts.too_slow())
            .flatten()
            .map_err(Failure::Network)?;
        let status = answer.status();
        if status.is_redirection()
            && let Some(target) = text(answer.headers(), &LOCATION)
        {
            let next = url.join(&target).map_err(|error| {
                Failure::Final(format!(
                    "{} redirects to what is no address: {error}",
                    host(&url)
                ))
            })?;
            if !matches!(next.scheme(), "http" | "https") {
                return Err(Failure::Final(format!(
                    "{} redirects to an address of {}, which is not asked",
                    host(&url),
                    next.scheme()
                )));
            }
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(Failure::Final(format!(
                    "{} redirects to an address without TLS",
                    host(&url)
                )));
            }
            url = next;
            continue;
        }
        let is_redirected = url != *first;
        if is_redirected {
            signed.note(request, &url, status.as_u16());
        }
        let header = |name| text(answer.headers(), name);
        let mut response = Response {
            status: status.as_u16(),
            etag: header(&ETAG),
            content_range: header(&CONTENT_RANGE),
            content_encoding: header(&CONTENT_ENCODING),
            retry_after: header(&RETRY_AFTER),
            rate_limit: header(&RATE_LIMIT),
            error_code: header(&ERROR_CODE),
            redirected_to: is_redirected.then(|| url.to_string()),
            body: Vec::new(),
            cut: None,
        };
        response.cut = body(answer, &mut response.body, request.limit, timeouts, arrived)
            .await
            .err();
        if response.cut.is_some() {
            // The next attempt may be sent to a host that does better.
            signed.forget(request);
        }
        return Ok(response);
    }
    Err(Failure::Final(format!(
        "over {REDIRECTS} redirects, the last to {}",
        host(&url)
    )))
}

/// What may be said of an address: the rest of one that is signed is a secret.
fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

/// Asks one server. The token is for the first one's origin only.
async fn send(
    client: &Client,
    request: &Request,
    url: &Url,
    first: &Url,
) -> Result<reqwest::Response, String> {
    let mut builder = client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
    if let Some(range) = &request.range {
        let last = range.end.saturating_sub(1);
        builder = builder.header(RANGE, format!("bytes={}-{last}", range.start));
        if let Some(etag) = &request.if_range {
            builder = builder.header(IF_RANGE, etag);
        }
    }
    if let Some(token) = &request.token
        && url.origin() == first.origin()
    {
        builder = builder.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    builder.send().await.map_err(|error| {
        let mut reason = reason(&error);
        if error.is_connect()
            && let Some(proxy) = proxy_variable(url)
        {
            reason += &format!(
                " ({proxy} is set: unless NO_PROXY has {}, the proxy may be what does not answer)",
                host(url)
            );
        }
        reason
    })
}

/// The variable that names a proxy for an address, if one does.
fn proxy_variable(url: &Url) -> Option<String> {
    let scheme = format!("{}_proxy", url.scheme());
    [scheme.as_str(), "all_proxy"].into_iter().find_map(|name| {
        // The first one counts, though it be empty.
        let name = [name.to_uppercase(), name.to_lowercase()]
            .into_iter()
            .find(|name| env::var_os(name).is_some())?;
        env::var_os(&name)
            .is_some_and(|value| !value.is_empty())
            .then_some(name)
    })
}

/// Reads a body up to a byte over `limit`; an error is why it ended early.
async fn body(
    mut answer: reqwest::Response,
    body: &mut Vec<u8>,
    limit: usize,
    timeouts: Timeouts,
    arrived: &UnboundedSender<u64>,
) -> Result<(), String> {
    let most = limit.saturating_add(1);
    let start = Instant::now();
    let mut window = Window::new(&timeouts, Duration::ZERO, body.len());
    loop {
        let piece = timeout(timeouts.stall, answer.chunk())
            .await
            .map_err(|_| timeouts.too_slow())?
            .map_err(|error| reason(&error))?;
        let Some(piece) = piece else { return Ok(()) };
        let taken = piece.len().min(most - body.len());
        body.try_reserve(taken)
            .map_err(|_| "memory ran out".to_owned())?;
        body.extend_from_slice(&piece[..taken]);
        // Nobody listens any more if the caller gave up; then this task ends with the next wait.
        let _ = arrived.send(taken as u64);
        if body.len() == most {
            return Ok(());
        }
        if window.is_stalled(start.elapsed(), body.len()) {
            return Err(timeouts.too_slow());
        }
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// An error and what lies below it; reqwest's own message says little.
fn reason(error: &reqwest::Error) -> String {
    let mut message = String::new();
    let mut below: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = below {
        if !message.is_empty() {
            message.push_str(": ");
        }
        message.push_str(&error.to_string());
        below = error.source();
    }
    if message.is_empty() {
        error.to_string()
    } else {
        message
    }
}
