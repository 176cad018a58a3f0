//! Files of one model by HTTP: retried, resumed, and checked against what the server said before.

use std::cell::RefCell;
use std::ops::Range;

use super::hub::Location;
use super::retry::{self, ATTEMPTS};
use super::transport::{Failure, Request, Response, Transport};
use crate::error::{Error, ErrorKind, Result};

/// The largest configuration, label or index file that is read.
pub const SMALL_FILE: usize = 16 << 20;

/// Fetches the files of one [`Location`].
pub struct Client<'a, T> {
    transport: &'a T,
    location: &'a Location,
    token: Option<&'a str>,
}

/// What the first answer said about a file, and every later one has to repeat.
#[derive(Clone, Debug, Default)]
pub struct RemoteFile {
    /// Its name in the folder.
    pub name: String,
    pinned: RefCell<Option<Pinned>>,
}

/// The identity of a file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
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
            pinned: RefCell::default(),
        }
    }

    /// What is known, once a range of it has arrived.
    pub fn pinned(&self) -> Option<Pinned> {
        self.pinned.borrow().clone()
    }
}

/// What one answer means.
enum Outcome {
    /// The bytes asked for, from where this attempt began; perhaps not all of them.
    Bytes(Vec<u8>),
    /// Try again; why, and the server's `Retry-After`.
    Again(String, Option<String>),
}

impl<'a, T: Transport> Client<'a, T> {
    /// A client for one location; `token` goes with every request.
    pub const fn new(transport: &'a T, location: &'a Location, token: Option<&'a str>) -> Self {
        Self {
            transport,
            location,
            token,
        }
    }

    /// The URL of a file, for messages.
    pub fn url(&self, file: &str) -> String {
        self.location.url(file)
    }

    /// Reads a small text file whole; `None` if there is no such file. A page of HTML counts as no
    /// file: static hosts show one for every address they do not know.
    ///
    /// # Errors
    /// [`ErrorKind::Network`] if the server can't be reached or keeps failing,
    /// [`ErrorKind::Format`] if the file is too large or no text, and those of an abort.
    pub async fn text(&self, file: &str) -> Result<Option<String>> {
        let request = Request {
            url: self.location.url(file),
            range: None,
            if_range: None,
            token: self.token.map(str::to_owned),
            limit: SMALL_FILE,
        };
        let mut attempt = 0;
        let body = loop {
            let again = match self.transport.get(request.clone(), &|_| {}).await {
                Ok(Response { status: 404, .. }) => return Ok(None),
                Ok(Response {
                    status: 200,
                    cut: None,
                    body,
                    ..
                }) => break body,
                Ok(Response {
                    status: 200,
                    cut: Some(reason),
                    ..
                }) => (reason, None),
                Ok(response) => self.refusal(file, response)?,
                Err(failure) => (network(failure)?, None),
            };
            self.wait(file, &mut attempt, again).await?;
        };
        if body.len() > SMALL_FILE {
            return Err(Error::format(format!(
                "{}: has over {SMALL_FILE} bytes, too many for a file of its kind",
                self.location.url(file)
            )));
        }
        let text = String::from_utf8(body)
            .map_err(|_| Error::format(format!("{}: is no text", self.location.url(file))))?;
        let is_html = text.trim_start().starts_with('<');
        Ok((!is_html).then_some(text))
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
        if let Some(pinned) = file.pinned() {
            range.end = range.end.min(pinned.len);
        }
        let mut bytes: Vec<u8> = Vec::new();
        let mut attempt = 0;
        while (bytes.len() as u64) < range.end.saturating_sub(range.start) {
            let rest = range.start + bytes.len() as u64..range.end;
            let again = match self.attempt(file, rest, arrived).await? {
                Outcome::Bytes(more) => {
                    // Progress was made: a slow line that keeps breaking still gets there.
                    attempt = if more.is_empty() { attempt } else { 0 };
                    let again = more.is_empty();
                    bytes.extend(more);
                    if let Some(pinned) = file.pinned() {
                        range.end = range.end.min(pinned.len);
                    }
                    if !again {
                        continue;
                    }
                    ("the connection broke".to_owned(), None)
                }
                Outcome::Again(reason, after) => (reason, after),
            };
            self.wait(&file.name, &mut attempt, again).await?;
        }
        Ok(bytes)
    }

    async fn attempt(
        &self,
        file: &RemoteFile,
        range: Range<u64>,
        arrived: &dyn Fn(u64),
    ) -> Result<Outcome> {
        let pinned = file.pinned();
        let wanted = range.end - range.start;
        let request = Request {
            url: self.location.url(&file.name),
            range: Some(range.clone()),
            if_range: pinned.as_ref().and_then(|pinned| pinned.etag.clone()),
            token: self.token.map(str::to_owned),
            limit: usize::try_from(wanted).unwrap_or(usize::MAX),
        };
        let response = match self.transport.get(request, arrived).await {
            Ok(response) => response,
            Err(failure) => return Ok(Outcome::Again(network(failure)?, None)),
        };
        match response.status {
            206 => self.accept(file, &range, response).map(Outcome::Bytes),
            200 if pinned.is_some_and(|pinned| response.etag != pinned.etag) => {
                Err(self.changed(&file.name))
            }
            // A simple server that knows no ranges, and a file that fits in one.
            200 if range.start == 0
                && response.cut.is_none()
                && response.body.len() as u64 <= wanted =>
            {
                file.pinned.replace(Some(Pinned {
                    len: response.body.len() as u64,
                    etag: response.etag,
                }));
                Ok(Outcome::Bytes(response.body))
            }
            200 => Err(Error::unsupported(format!(
                "{}: the server sends the whole file where a part was asked for; use one that supports Range requests",
                self.location.url(&file.name)
            ))),
            416 => Err(Error::new(
                ErrorKind::Integrity,
                format!(
                    "{}: is shorter than its header says, or changed; load the model again",
                    self.location.url(&file.name)
                ),
            )),
            404 => Err(Error::not_found(format!(
                "{}: there is no such file",
                self.location.url(&file.name)
            ))),
            _ => {
                let (reason, after) = self.refusal(&file.name, response)?;
                Ok(Outcome::Again(reason, after))
            }
        }
    }

    /// Checks a partial answer, and pins what it says about the file.
    fn accept(&self, file: &RemoteFile, range: &Range<u64>, response: Response) -> Result<Vec<u8>> {
        let url = || self.location.url(&file.name);
        let wrong = |what: String| Error::new(ErrorKind::Network, format!("{}: {what}", url()));
        let header = response.content_range.as_deref().unwrap_or_default();
        let Some((sent, len)) = content_range(header) else {
            return Err(wrong(format!(
                "the server's Content-Range {header:?} does not say which bytes it sends; a page on another server needs it exposed by CORS"
            )));
        };
        if sent.start != range.start || sent.end > range.end || sent.end > len {
            return Err(wrong(format!(
                "bytes {}-{} were asked for, but bytes {}-{} of {len} came",
                range.start,
                range.end - 1,
                sent.start,
                sent.end.saturating_sub(1)
            )));
        }
        let now = Pinned {
            len,
            etag: response.etag,
        };
        let mut pinned = file.pinned.borrow_mut();
        match pinned.as_ref() {
            Some(before) if *before != now => return Err(self.changed(&file.name)),
            Some(_) => {}
            None => *pinned = Some(now),
        }
        if response.body.len() as u64 > sent.end - sent.start {
            return Err(wrong(format!(
                "more bytes came than the {} announced",
                sent.end - sent.start
            )));
        }
        Ok(response.body)
    }

    /// An answer that is no success: passing or final.
    fn refusal(&self, file: &str, response: Response) -> Result<(String, Option<String>)> {
        let url = self.location.url(file);
        let status = response.status;
        // The hub redirects to signed addresses that expire; asking the hub again signs a new one.
        if retry::is_passing(status) || (status == 403 && response.redirected) {
            return Ok((
                format!("the server answered {status}"),
                response.retry_after,
            ));
        }
        Err(match status {
            401 | 403 => Error::not_found(format!(
                "{url}: the server answered {status}: there is no such model, or it needs a token of somebody who may read it"
            )),
            _ => Error::new(
                ErrorKind::Network,
                format!("{url}: the server answered {status}"),
            ),
        })
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

    /// Waits before the next attempt, or gives up.
    async fn wait(
        &self,
        file: &str,
        attempt: &mut u32,
        (reason, retry_after): (String, Option<String>),
    ) -> Result<()> {
        if *attempt + 1 >= ATTEMPTS {
            return Err(Error::new(
                ErrorKind::Network,
                format!(
                    "{}: {reason}; gave up after {ATTEMPTS} attempts",
                    self.location.url(file)
                ),
            ));
        }
        let wait = retry::wait(*attempt, retry_after.as_deref(), self.transport.jitter());
        *attempt += 1;
        match self.transport.sleep(wait).await {
            Ok(()) => Ok(()),
            Err(failure) => network(failure).map(|_| ()),
        }
    }
}

/// A failure that may pass as its reason; an abort as the error that ends everything.
fn network(failure: Failure) -> Result<String> {
    match failure {
        Failure::Network(reason) => Ok(reason),
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
