//! One HTTP request, whatever carries it out: a native client, or `fetch` in a browser.

use std::ops::Range;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// A `GET`.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where to.
    pub url: String,
    /// The bytes wanted; all of them without it.
    pub range: Option<Range<u64>>,
    /// The `ETag` that the range belongs to, sent as `If-Range`.
    pub if_range: Option<String>,
    /// Sent as `Authorization: Bearer`, to the server of `url` alone: not to those it redirects to.
    pub token: Option<String>,
    /// The most bytes of the body to read; a longer one is cut one byte after it.
    pub limit: usize,
}

/// The parts of an answer that matter here.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// `ETag`.
    pub etag: Option<String>,
    /// `Content-Range`.
    pub content_range: Option<String>,
    /// `Content-Encoding`, if `body` is still encoded.
    pub content_encoding: Option<String>,
    /// `Retry-After`.
    pub retry_after: Option<String>,
    /// `RateLimit`: how much may be asked for, and from when on more.
    pub rate_limit: Option<String>,
    /// `X-Error-Code`: why the hub refuses.
    pub error_code: Option<String>,
    /// The address that answered, if it is not the one that was asked.
    pub redirected_to: Option<String>,
    /// What arrived of the body.
    pub body: Vec<u8>,
    /// Why the body ended before its end, if it did.
    pub cut: Option<String>,
}

/// Why there is no answer at all.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The server was not reached, or took too long. Trying again may help.
    Network(String),
    /// The request can't be made, as with an address that is none, or where no server may be asked. Trying again does not
    /// help.
    Final(String),
    /// The caller gave up.
    Aborted,
}

/// Something that carries out requests.
///
/// The futures need not be `Send`: a browser's are not. Dropping one ends its request.
#[allow(async_fn_in_trait)]
pub trait Transport {
    /// Carries out one request, redirects followed. `arrived` is called with the number of
    /// bytes as they come.
    async fn get(&self, request: Request, arrived: &dyn Fn(u64)) -> Result<Response, Failure>;

    /// Waits, or ends at once if the caller gives up.
    async fn sleep(&self, duration: Duration) -> Result<(), Failure>;

    /// A number from 0 to 1, so that many clients do not retry in step.
    fn jitter(&self) -> f64;

    /// The SHA-256 of some bytes, by whatever is fastest here.
    async fn sha256(&self, bytes: &[u8]) -> [u8; 32] {
        Sha256::digest(bytes).into()
    }
}

impl<T: Transport> Transport for &T {
    async fn get(&self, request: Request, arrived: &dyn Fn(u64)) -> Result<Response, Failure> {
        (**self).get(request, arrived).await
    }

    async fn sleep(&self, duration: Duration) -> Result<(), Failure> {
        (**self).sleep(duration).await
    }

    fn jitter(&self) -> f64 {
        (**self).jitter()
    }

    async fn sha256(&self, bytes: &[u8]) -> [u8; 32] {
        (**self).sha256(bytes).await
    }
}
