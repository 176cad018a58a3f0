//! Files of one model by HTTP: retried, resumed, and checked against what the server said before.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::hub::Location;
use super::listing::Listing;
use super::retry::{self, ATTEMPTS};
use super::transport::{Failure, Request, Response, Transport};
use crate::error::{At as _, Error, ErrorKind, Result, printable};

/// The largest configuration, label or index file that is read.
pub const SMALL_FILE: usize = 16 << 20;

/// The most bytes of a file that is read in chunks: 1 TiB.
const MAX_FILE: u64 = 1 << 40;

/// How many bytes an attempt has to bring to count as progress: a line that keeps breaking gets
/// there, one that drips does not take for ever.
const PROGRESS: usize = 64 << 10;

/// Fetches the files of one [`Location`].
pub struct Client<T> {
    transport: T,
    location: Location,
    token: Option<String>,
    fetched: Cell<u64>,
    is_reached: Cell<bool>,
    /// The files that the server does not have; false where it only seems so.
    absent: RefCell<BTreeMap<String, bool>>,
}

/// What the first answer said about a file, and every later one has to repeat.
#[derive(Clone, Debug, Default)]
pub struct RemoteFile {
    /// Its name in the folder.
    pub name: String,
    /// The length it has to have, where something else than the file's server says it.
    expected_len: Option<u64>,
    pinned: RefCell<Option<Pinned>>,
}

/// The identity of a file's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Pinned {
    /// Its length in bytes.
    pub len: u64,
    /// Its `ETag`, if the server gives one.
    pub etag: Option<String>,
}

impl RemoteFile {
    /// A file that nothing is known about yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            expected_len: None,
            pinned: RefCell::default(),
        }
    }

    /// A file that has to have `len` bytes.
    pub(super) const fn with_len(mut self, len: Option<u64>) -> Self {
        self.expected_len = len;
        self
    }

    /// Its length, once something has said it.
    pub fn known_len(&self) -> Option<u64> {
        self.expected_len
            .or_else(|| self.pinned.borrow().as_ref().map(|pinned| pinned.len))
    }

    /// Takes over what was known of it before.
    pub(super) fn pin(&self, pinned: Pinned) {
        self.pinned.replace(Some(pinned));
    }

    /// What is known, once a range of it has arrived.
    pub fn pinned(&self) -> Option<Pinned> {
        self.pinned.borrow().clone()
    }
}

/// What one answer means.
enum Outcome {
    /// The bytes asked for, from where this attempt began; if not all of them, why.
    Bytes(Vec<u8>, Option<String>),
    /// Try again; why, and after how many seconds, if the server said so.
    Again(String, Option<u64>),
}

impl<T: Transport> Client<T> {
    /// A client for one location; `token` goes with every request.
    pub const fn new(transport: T, location: Location, token: Option<String>) -> Self {
        Self {
            transport,
            location,
            token,
            fetched: Cell::new(0),
            is_reached: Cell::new(false),
            absent: RefCell::new(BTreeMap::new()),
        }
    }

    /// What carries out the requests.
    pub const fn transport(&self) -> &T {
        &self.transport
    }

    /// Where the files are.
    pub const fn location(&self) -> &Location {
        &self.location
    }

    /// Bytes of bodies that came from the server so far.
    pub const fn fetched(&self) -> u64 {
        self.fetched.get()
    }

    /// True once the server has answered anything but that it can't answer just now, as a proxy does
    /// for a server that is not in reach.
    pub(super) const fn is_reached(&self) -> bool {
        self.is_reached.get()
    }

    /// Notes that there is no such file, or that it only seems so.
    pub(super) fn note_absent(&self, file: &str, is_certain: bool) {
        self.absent.borrow_mut().insert(file.to_owned(), is_certain);
    }

    /// Whether a file that was asked for certainly is not there; `None` if it is.
    pub(super) fn absence(&self, file: &str) -> Option<bool> {
        self.absent.borrow().get(file).copied()
    }

    /// From here on, asks for the files of a commit.
    pub(super) fn at_commit(&mut self, commit: &str) {
        self.location.at_commit(commit);
    }

    /// The URL of a file, for messages.
    pub fn url(&self, file: &str) -> String {
        self.location.url(file)
    }

    /// Reads a small text file whole; `None` if there is no such file. A page of HTML counts as no
    /// file: static hosts show one for every address they do not know. So does a 403 in a folder, which is what
    /// object stores answer of a file that is not there.
    ///
    /// # Errors
    /// [`ErrorKind::Network`] if the server can't be reached or keeps failing,
    /// [`ErrorKind::Format`] if the file is too large or no text, and those of an abort.
    pub async fn text(&self, file: &str) -> Result<Option<String>> {
        let url = self.location.url(file);
        let body = self.whole(&url, file).await?;
        body.map_or(Ok(None), |body| text(body).at(url))
    }

    /// What the hub says of the repository; `None` for a folder, or if this hub says nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Network`] if the server can't be reached or keeps failing, and those of an
    /// abort.
    pub(super) async fn listing(&self) -> Result<Option<Listing>> {
        let Some(url) = self.location.listing_url() else {
            return Ok(None);
        };
        let body = match self.whole(&url, "").await {
            Ok(body) => body,
            // It may be no hub but a mirror of its files; those tell what is wrong, if anything.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let text = body.and_then(|body| String::from_utf8(body).ok());
        Ok(text.and_then(|text| Listing::from_hub(&text).ok()))
    }

    /// Reads a small body whole; `None` for 404, and where the file only seems not to be there.
    async fn whole(&self, url: &str, file: &str) -> Result<Option<Vec<u8>>> {
        let request = Request {
            url: url.to_owned(),
            range: None,
            if_range: None,
            token: self.token.clone(),
            limit: SMALL_FILE,
        };
        let count = |bytes| self.count(bytes);
        let mut attempt = 0;
        let mut is_renewed = false;
        let body = loop {
            let again = match self.get(request.clone(), &count).await {
                Ok(Response { status: 404, .. }) => return Ok(None),
                Ok(response) if self.may_be_absent(&response) => {
                    self.note_absent(file, false);
                    return Ok(None);
                }
                Ok(response) if response.status == 200 => {
                    self.check_encoding(url, &response)?;
                    match response.cut {
                        None => break response.body,
                        Some(reason) => (reason, None),
                    }
                }
                Ok(response) => self.refusal(url, response, &mut is_renewed)?,
                Err(failure) => (network(failure, url)?, None),
            };
            self.wait(url, &mut attempt, again).await?;
        };
        if body.len() > SMALL_FILE {
            return Err(Error::format(format!(
                "{url}: has over {SMALL_FILE} bytes, too many for a file of its kind"
            )));
        }
        Ok(Some(body))
    }

    /// True of a refusal by which an object store says, to whoever may not list it, that there is no such file.
    const fn may_be_absent(&self, response: &Response) -> bool {
        response.status == 403
            && response.error_code.is_none()
            && response.redirected_to.is_none()
            && !self.location.is_repository()
    }

    /// Carries out one request.
    async fn get(&self, request: Request, arrived: &dyn Fn(u64)) -> Result<Response, Failure> {
        let response = self.transport.get(request, arrived).await?;
        if !retry::is_passing(response.status) {
            self.is_reached.set(true);
        }
        Ok(response)
    }

    fn count(&self, bytes: u64) {
        self.fetched.set(self.fetched.get().saturating_add(bytes));
    }

    /// Reads a range of a file. What arrived before a connection broke is kept, and only the rest
    /// is asked for again. If the file ends inside the range, the answer is shorter: what the file
    /// has.
    ///
    /// # Errors
    /// [`ErrorKind::Network`] if the server can't be reached or keeps failing;
    /// [`ErrorKind::NotFound`] if there is no such file or it may not be read;
    /// [`ErrorKind::Integrity`] if the file changed since its first range;
    /// [`ErrorKind::Unsupported`] if the server sends no ranges; and those of an abort.
    pub async fn range(
        &self,
        file: &RemoteFile,
        range: Range<u64>,
        arrived: &dyn Fn(u64),
    ) -> Result<Vec<u8>> {
        let mut range = range;
        if let Some(len) = file.known_len() {
            range.end = range.end.min(len);
        }
        let count = |bytes| {
            self.count(bytes);
            arrived(bytes);
        };
        let url = self.location.url(&file.name);
        let mut bytes: Vec<u8> = Vec::new();
        let mut attempt = 0;
        let mut is_renewed = false;
        // A browser may drop what has come when an answer breaks off: where answers of this length
        // always do, shorter ones get through.
        let mut most = u64::MAX;
        while (bytes.len() as u64) < range.end.saturating_sub(range.start) {
            let start = range.start + bytes.len() as u64;
            let rest = start..range.end.min(start.saturating_add(most));
            let asked = rest.end - rest.start;
            let again = match self.attempt(file, rest, &mut is_renewed, &count).await? {
                Outcome::Bytes(more, cut) => {
                    let progress = more.len() >= PROGRESS;
                    bytes.extend(more);
                    if let Some(pinned) = file.pinned() {
                        range.end = range.end.min(pinned.len);
                    }
                    if progress || bytes.len() as u64 >= range.end.saturating_sub(range.start) {
                        (attempt, is_renewed) = (0, false);
                        continue;
                    }
                    most = (asked / 4).max(PROGRESS as u64);
                    let reason = cut.unwrap_or_else(|| "only small parts came".to_owned());
                    (reason, None)
                }
                Outcome::Again(reason, after) => (reason, after),
            };
            self.wait(&url, &mut attempt, again).await?;
        }
        Ok(bytes)
    }

    async fn attempt(
        &self,
        file: &RemoteFile,
        range: Range<u64>,
        is_renewed: &mut bool,
        arrived: &dyn Fn(u64),
    ) -> Result<Outcome> {
        let pinned = file.pinned();
        let wanted = range.end - range.start;
        let request = Request {
            url: self.location.url(&file.name),
            range: Some(range.clone()),
            if_range: pinned
                .as_ref()
                .and_then(|pinned| pinned.etag.clone())
                // A weak one would get the whole file.
                .filter(|etag| !etag.starts_with("W/")),
            token: self.token.clone(),
            limit: usize::try_from(wanted).unwrap_or(usize::MAX),
        };
        let response = match self.get(request, arrived).await {
            Ok(response) => response,
            Err(failure) => {
                let url = self.location.url(&file.name);
                return Ok(Outcome::Again(network(failure, &url)?, None));
            }
        };
        self.check_encoding(&self.location.url(&file.name), &response)?;
        match response.status {
            206 => self.accept(file, &range, response),
            200 if pinned.is_some_and(|pinned| response.etag != pinned.etag) => {
                Err(self.changed(&file.name))
            }
            // A simple server that knows no ranges: what is whole is no longer than the part that was
            // asked for. That serves a file that fits in one part, and shows one of a wrong length.
            200 if response.cut.is_none() && response.body.len() as u64 <= wanted => {
                let Response { body, etag, .. } = response;
                let len = body.len() as u64;
                self.pin(file, Pinned { len, etag })?;
                if range.start == 0 {
                    return Ok(Outcome::Bytes(body, None));
                }
                Err(self.shorter(&file.name))
            }
            200 => Err(Error::unsupported(format!(
                "{}: the server sends the whole file where a part was asked for; use one that supports Range requests",
                self.location.url(&file.name)
            ))),
            416 => Err(self.shorter(&file.name)),
            404 => {
                self.note_absent(&file.name, true);
                Err(Error::not_found(format!(
                    "{}: there is no such file",
                    self.location.url(&file.name)
                )))
            }
            status => {
                // An object store answers so for a file that is not there, unless the caller may list it.
                if status == 403 && !self.location.is_repository() {
                    self.note_absent(&file.name, false);
                }
                let url = self.location.url(&file.name);
                let (reason, after) = self.refusal(&url, response, is_renewed)?;
                Ok(Outcome::Again(reason, after))
            }
        }
    }

    /// Checks a partial answer, and pins what it says about the file.
    fn accept(&self, file: &RemoteFile, range: &Range<u64>, response: Response) -> Result<Outcome> {
        let url = || self.location.url(&file.name);
        let wrong = |what: String| Error::new(ErrorKind::Network, format!("{}: {what}", url()));
        let header = response.content_range.as_deref().unwrap_or_default();
        let Some((sent, len)) = content_range(header) else {
            return Err(wrong(format!(
                "the server's Content-Range {header:?} does not say which bytes it sends; a page on another server needs it exposed by CORS"
            )));
        };
        // First whether it is the file at all: one of another length has other ranges too.
        let etag = response.etag;
        self.pin(file, Pinned { len, etag })?;
        if sent.start != range.start || sent.end > range.end || sent.end > len {
            return Err(wrong(format!(
                "bytes {}-{} were asked for, but bytes {}-{} of {len} came",
                range.start,
                range.end - 1,
                sent.start,
                sent.end.saturating_sub(1)
            )));
        }
        let announced = sent.end - sent.start;
        let came = response.body.len() as u64;
        if came > announced {
            return Err(wrong(format!(
                "more bytes came than the {announced} announced"
            )));
        }
        Ok(match response.cut {
            None if came < announced => Outcome::Again(
                format!("{came} bytes came where the server announced {announced}"),
                None,
            ),
            cut => Outcome::Bytes(response.body, cut),
        })
    }

    /// Keeps what a file is, or compares it with what it was.
    fn pin(&self, file: &RemoteFile, now: Pinned) -> Result<()> {
        let url = self.location.url(&file.name);
        check_len(&url, now.len)?;
        if let Some(expected) = file.expected_len
            && expected != now.len
        {
            return Err(Error::new(
                ErrorKind::Integrity,
                format!(
                    "{url}: has {} bytes, but must have {expected}: it was cut, or changed",
                    now.len
                ),
            ));
        }
        let mut pinned = file.pinned.borrow_mut();
        match pinned.as_ref() {
            Some(before) if *before != now => Err(self.changed(&file.name)),
            Some(_) => Ok(()),
            None => {
                *pinned = Some(now);
                Ok(())
            }
        }
    }

    /// A compressed body has other bytes than the file.
    fn check_encoding(&self, url: &str, response: &Response) -> Result<()> {
        let encoding = response.content_encoding.as_deref().map(str::trim);
        match encoding {
            None | Some("" | "identity") => Ok(()),
            Some(encoding) if (200..300).contains(&response.status) => {
                Err(Error::unsupported(format!(
                    "{url}: the server compresses it ({}) although it was asked not to; turn that off for models",
                    printable(encoding)
                )))
            }
            Some(_) => Ok(()),
        }
    }

    /// An answer that is no success: passing or final.
    fn refusal(
        &self,
        url: &str,
        response: Response,
        is_renewed: &mut bool,
    ) -> Result<(String, Option<u64>)> {
        let status = response.status;
        // The hub redirects to signed addresses that expire; asking the hub again signs a new one. Its own refusals have a
        // code, also behind the redirect of a renamed repository.
        let signed = response
            .redirected_to
            .as_deref()
            .filter(|_| status == 403 && response.error_code.is_none());
        if retry::is_passing(status) || (signed.is_some() && !*is_renewed) {
            *is_renewed |= signed.is_some();
            let limit = response.rate_limit.as_deref().filter(|_| status == 429);
            let after =
                retry::seconds(response.retry_after.as_deref()).or_else(|| retry::renewal(limit?));
            return Ok((format!("the server answered {status}"), after));
        }
        let said = match words(&response.body) {
            words if words.is_empty() => words,
            words => format!(" ({words})"),
        };
        if let Some(target) = signed {
            return Err(Error::new(
                ErrorKind::Network,
                format!(
                    "{url}: {} answered 403{said} to an address that the server has just signed: check this machine's clock, and whether its network or region may reach that host",
                    host(target)
                ),
            ));
        }
        Err(match status {
            401 | 403 if response.error_code.as_deref() == Some("GatedRepo") => {
                let page = self.location.page();
                Error::not_found(format!(
                    "{url}: the model is gated (the server answered {status}): accept its terms at {page}, then pass a token of that account"
                ))
            }
            401 | 403 => Error::not_found(format!(
                "{url}: the server answered {status}{said}: there is no such model, or it needs a token of somebody who may read it"
            )),
            _ => Error::new(
                ErrorKind::Network,
                format!("{url}: the server answered {status}"),
            ),
        })
    }

    fn shorter(&self, file: &str) -> Error {
        Error::new(
            ErrorKind::Integrity,
            format!(
                "{}: is shorter than its header says, or changed; load the model again",
                self.location.url(file)
            ),
        )
    }

    fn changed(&self, file: &str) -> Error {
        Error::new(
            ErrorKind::Integrity,
            format!(
                "{}: changed on the server while it was read; load the model again",
                self.location.url(file)
            ),
        )
    }

    /// Waits before the next attempt, or gives up: after the last one, or if the server asks for
    /// more patience than anybody has.
    async fn wait(
        &self,
        url: &str,
        attempt: &mut u32,
        (reason, after): (String, Option<u64>),
    ) -> Result<()> {
        let fail = |what: String| Err(Error::new(ErrorKind::Network, format!("{url}: {what}")));
        let jitter = self.transport.jitter();
        let wait = match retry::wait(*attempt, after, jitter) {
            Ok(wait) => wait,
            Err(seconds) => {
                return fail(format!(
                    "{reason} and asks not to be asked again for {seconds} seconds; load the model again after that"
                ));
            }
        };
        if *attempt + 1 >= ATTEMPTS {
            return fail(format!("{reason}; gave up after {ATTEMPTS} attempts"));
        }
        *attempt += 1;
        match self.transport.sleep(wait).await {
            Ok(()) => Ok(()),
            Err(failure) => network(failure, url).map(|_| ()),
        }
    }
}

/// The text of a small file, if it is one.
fn text(body: Vec<u8>) -> Result<Option<String>> {
    let text = String::from_utf8(body).map_err(|_| Error::format("is no text"))?;
    let is_html = text.trim_start().starts_with('<');
    Ok((!is_html).then_some(text))
}

/// Refuses a length that no file of weights has: what a server claims is asked for, chunk by chunk.
pub(super) fn check_len(url: &str, len: u64) -> Result<()> {
    if len > MAX_FILE {
        return Err(Error::unsupported(format!(
            "{url}: is said to have {len} bytes, more than a file of any model ({MAX_FILE})"
        )));
    }
    Ok(())
}

/// The host of a URL: the rest of one that is signed is a secret.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// What the body of a refusal says, without its tags: XML of a store of objects, or a page.
fn words(body: &[u8]) -> String {
    const MOST: usize = 1024;
    let text = String::from_utf8_lossy(body.get(..MOST).unwrap_or(body)).into_owned();
    let mut parts = text.split('<');
    // All of the first part is before the first tag.
    let before = parts.next().unwrap_or_default();
    let mut words: Vec<&str> = before.split_whitespace().collect();
    for part in parts {
        let part = part.split_once('>').map_or(part, |(_, text)| text);
        words.extend(part.split_whitespace());
    }
    printable(&words.join(" "))
}

/// A failure that may pass as its reason; one that won't as the error that ends everything.
fn network(failure: Failure, url: &str) -> Result<String> {
    match failure {
        Failure::Network(reason) => Ok(reason),
        Failure::Final(reason) => Err(Error::new(ErrorKind::Network, format!("{url}: {reason}"))),
        Failure::Aborted => Err(Error::aborted()),
    }
}

/// `bytes 0-7/100` as the range 0..8 of 100.
fn content_range(header: &str) -> Option<(Range<u64>, u64)> {
    let (range, len) = header.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let range = first.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?;
    (range.start < range.end).then_some((range, len.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_no_model_has_is_refused() {
        check_len("url", 26 << 30).expect("the 7B has as many");
        for len in [MAX_FILE + 1, u64::MAX] {
            let error = check_len("https://a.b/c", len).expect_err("it has no such file");
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("https://a.b/c"), "{error}");
        }
    }

    #[test]
    fn what_a_refusal_says_is_read_without_its_tags() {
        for (body, expected) in [
            (
                &b"<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"[..],
                "AccessDenied Request has expired",
            ),
            (b"not in your region\n", "not in your region"),
            (b"limit -> 5 <b>files</b>", "limit -> 5 files"),
            (b"<html><p>Please\x1b[2J log in</p>", r"Please\u{1b}[2J log in"),
            (b"", ""),
            (b"\xff<", "\u{fffd}"),
        ] {
            assert_eq!(words(body), expected);
        }
        assert!(words(&[b'x'; 5000]).len() < 300);
        assert_eq!(host("https://a.b:8/c?secret"), "a.b:8");
        assert_eq!(host("https://a.b?secret"), "a.b");
    }

    #[test]
    fn content_ranges_are_read() {
        assert_eq!(content_range("bytes 0-7/100"), Some((0..8, 100)));
        for broken in [
            "",
            "bytes */100",
            "bytes 0-7/*",
            "bytes 7-0/9",
            "0-7/100",
            "bytes 0-18446744073709551615/9",
        ] {
            assert_eq!(content_range(broken), None, "{broken}");
        }
    }
}
