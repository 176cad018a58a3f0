//! Just enough of HTTP/1.1, with every byte of an answer in our hands.

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

pub(super) struct Request {
    pub(super) method: String,
    /// Without the query.
    pub(super) path: String,
    pub(super) query: HashMap<String, String>,
    /// Names in lower case.
    pub(super) headers: HashMap<String, String>,
}

impl Request {
    /// The range asked for, in a file of `len` bytes; `Some(None)` if the file has no such bytes.
    pub(super) fn range(&self, len: u64) -> Option<Option<(u64, u64)>> {
        let (first, last) = self
            .headers
            .get("range")?
            .strip_prefix("bytes=")?
            .split_once('-')?;
        let first: u64 = first.parse().ok()?;
        let end = last
            .parse::<u64>()
            .map_or(len, |last| last.saturating_add(1).min(len));
        Some((first < end).then_some((first, end)))
    }
}

pub(super) struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        // Small parts must leave at once: drips and cuts are about them.
        let _ = stream.set_nodelay(true);
        Self {
            reader: BufReader::new(stream),
        }
    }

    /// The next request, or `None` if the client left.
    pub(super) fn read(&mut self) -> Option<Request> {
        let line = self.line()?;
        let mut parts = line.split(' ');
        let method = parts.next()?.to_owned();
        let target = parts.next()?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let path = path.to_owned();
        let mut headers = HashMap::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':')?;
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        Some(Request {
            method,
            path,
            query,
            headers,
        })
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line).ok()?;
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// Sends the status and the headers.
    pub(super) fn head(&mut self, status: u16, headers: &[(&str, String)]) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {status} Status\r\n");
        head.push_str("Access-Control-Allow-Origin: *\r\n");
        head.push_str("Access-Control-Allow-Headers: *, Authorization, Range\r\n");
        head.push_str(
            "Access-Control-Expose-Headers: ETag, Content-Range, Content-Encoding, Retry-After, X-Error-Code\r\n",
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.send(head.as_bytes())
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Waits until the client leaves.
    pub(super) fn wait_for_end(&mut self) {
        let mut rest = [0; 256];
        while matches!(self.reader.read(&mut rest), Ok(1..)) {}
    }
}
