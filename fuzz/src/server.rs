//! A model on a server that behaves, or not, and in a cache.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use aim_web::weights::remote::cache::{Key, Sealed};
use aim_web::weights::remote::client::Client;
use aim_web::weights::remote::{
    Cache, Failure, Location, RemoteModel, Repository, Request, Response, Store, Transport, Wanted,
};
use aim_web::{Result, weights::load::sink::Sink};
use arbitrary::Arbitrary;
use futures_util::future::{FutureExt as _, LocalBoxFuture, ready};
use pollster::block_on;
use sha2::{Digest as _, Sha256};

/// What becomes of one answer.
#[derive(Arbitrary, Clone, Debug)]
pub enum Fault {
    /// It is right.
    None,
    /// No answer.
    Unreachable,
    /// A status of an error, with a body.
    Status(u16, Vec<u8>),
    /// The body ends early, and the connection says so.
    Cut(u8),
    /// The body ends early, and nothing says so.
    Short(u8),
    /// The body goes on.
    Longer(u8),
    /// The whole file, whatever was asked for.
    Whole,
    /// Other numbers of `Content-Range`, added to the right ones.
    Shifted([i8; 3]),
    /// Any text as `Content-Range`.
    Range(String),
    /// Another `ETag`, or none.
    Etag(Option<String>),
    /// Any encoding, time and code.
    Headers([Option<String>; 3]),
}

/// Files, and what goes wrong with the answers in turn.
#[derive(Debug, Default)]
pub struct Server {
    /// The files by their names; what the hub says of the repository is `""`.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What goes wrong, answer by answer.
    faults: Vec<Fault>,
    requests: Cell<usize>,
    /// No server can be reached, and every SHA-256 is zeros, so that a fuzzer can write what passes for kept.
    is_away: bool,
}

/// The most requests that a load makes of a server with so few files.
const MOST_REQUESTS: usize = 2000;

impl Server {
    /// A server of some files.
    pub const fn new(files: BTreeMap<String, Vec<u8>>, faults: Vec<Fault>) -> Self {
        Self {
            files,
            faults,
            requests: Cell::new(0),
            is_away: false,
        }
    }

    /// No server, and whatever lies in a cache passes for what was put there.
    pub fn away() -> Self {
        Self {
            is_away: true,
            ..Self::default()
        }
    }

    fn answer(&self, request: &Request) -> Result<Response, Failure> {
        let nth = self.requests.replace(self.requests.get() + 1);
        assert!(nth < MOST_REQUESTS, "it asks for ever");
        let fault = self.faults.get(nth).unwrap_or(&Fault::None);
        if self.is_away || matches!(fault, Fault::Unreachable) {
            return Err(Failure::Network("no route to host".to_owned()));
        }
        let name = if request.url.contains("/api/") {
            ""
        } else {
            request.url.rsplit('/').next().unwrap_or_default()
        };
        let Some(file) = self.files.get(name) else {
            return Ok(Response {
                status: 404,
                ..Response::default()
            });
        };
        let len = file.len() as u64;
        let mut response = Response {
            status: 200,
            etag: Some("\"v1\"".to_owned()),
            body: file.clone(),
            ..Response::default()
        };
        let range = request.range.clone().filter(|range| range.start < len);
        if let Some(range) = range
            && !matches!(fault, Fault::Whole)
        {
            let end = range.end.min(len);
            let mut numbers = [range.start, end.saturating_sub(1), len];
            if let Fault::Shifted(by) = fault {
                for (number, by) in numbers.iter_mut().zip(by) {
                    *number = number.saturating_add_signed((*by).into());
                }
            }
            let [first, last, all] = numbers;
            response.status = 206;
            response.content_range = Some(format!("bytes {first}-{last}/{all}"));
            response.body = file[range.start as usize..end as usize].to_vec();
        }
        let share = |part: u8| response.body.len() * usize::from(part) / 256;
        match fault {
            Fault::Status(status, body) => {
                // A wrong body that claims to be right is right, where nothing says what it has to be.
                response.status = 300 + status % 300;
                response.body.clone_from(body);
            }
            Fault::Cut(part) => {
                let part = share(*part);
                response.body.truncate(part);
                response.cut = Some("connection reset".to_owned());
            }
            Fault::Short(part) => {
                let part = share(*part);
                response.body.truncate(part);
            }
            Fault::Longer(by) => response.body.extend(vec![b' '; usize::from(*by)]),
            Fault::Range(text) => response.content_range = Some(text.clone()),
            Fault::Etag(etag) => response.etag.clone_from(etag),
            Fault::Headers([encoding, after, code]) => {
                response.content_encoding.clone_from(encoding);
                response.retry_after.clone_from(after);
                response.error_code.clone_from(code);
            }
            Fault::None | Fault::Unreachable | Fault::Whole | Fault::Shifted(_) => {}
        }
        response.body.truncate(request.limit.saturating_add(1));
        Ok(response)
    }
}

impl Transport for Server {
    async fn get(&self, request: Request, arrived: &dyn Fn(u64)) -> Result<Response, Failure> {
        let response = self.answer(&request)?;
        arrived(response.body.len() as u64);
        Ok(response)
    }

    async fn sleep(&self, duration: Duration) -> Result<(), Failure> {
        assert!(duration < Duration::from_secs(3600), "{duration:?}");
        Ok(())
    }

    fn jitter(&self) -> f64 {
        0.5
    }

    async fn sha256(&self, bytes: &[u8]) -> [u8; 32] {
        if self.is_away {
            return [0; 32];
        }
        Sha256::digest(bytes).into()
    }
}

/// An entry's repository, content and name, and its seal and bytes.
type Entries = BTreeMap<[String; 3], ([u8; 32], Vec<u8>)>;

/// A cache in memory.
#[derive(Debug, Default)]
pub struct Memory {
    any: BTreeMap<String, Vec<u8>>,
    entries: RefCell<Entries>,
}

impl Memory {
    /// Whatever is asked for lies there under the name of its entry.
    pub fn of_any(any: BTreeMap<String, Vec<u8>>) -> Self {
        Self {
            any,
            ..Self::default()
        }
    }
}

impl Cache for Memory {
    fn get<'a>(&'a self, key: &'a Key) -> LocalBoxFuture<'a, Option<Sealed>> {
        let found = match self.any.get(&key.entry) {
            Some(bytes) => Some(([0; 32], bytes.clone())),
            None => self.entries.borrow().get(&names(key)).cloned(),
        };
        ready(found.map(|(seal, bytes)| Sealed { bytes, seal })).boxed_local()
    }

    fn put<'a>(
        &'a self,
        key: &'a Key,
        bytes: &'a [u8],
        seal: [u8; 32],
    ) -> LocalBoxFuture<'a, Result<(), String>> {
        let mut entries = self.entries.borrow_mut();
        entries.insert(names(key), (seal, bytes.to_vec()));
        ready(Ok(())).boxed_local()
    }

    fn remove<'a>(&'a self, repository: &'a str, content: &'a str) -> LocalBoxFuture<'a, ()> {
        let mut entries = self.entries.borrow_mut();
        entries.retain(|[own, name, _], _| own != repository || name != content);
        ready(()).boxed_local()
    }
}

fn names(key: &Key) -> [String; 3] {
    [&key.repository, &key.content, &key.entry].map(Clone::clone)
}

/// Opens the model of a server, and streams what `sink` wants of it; `model` is its name, of the hub or a folder.
///
/// # Errors
/// Whatever makes it none.
pub fn load(
    server: &Server,
    cache: Option<Rc<Memory>>,
    model: &str,
    sink: &mut dyn Sink,
) -> Result<()> {
    let store = cache.map(|cache| Store::new(cache, Rc::new(|_| {})));
    block_on(async {
        let client = Client::new(server, Location::new(model, None, None)?, None);
        let repository = Repository::open(client, store).await?;
        let model = RemoteModel::open(repository, &Wanted::default()).await?;
        model.stream(sink, &|_| {}).await
    })
}
