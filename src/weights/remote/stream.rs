//! One file of weights on a server: what it holds, then the tensors that are wanted of it, in chunks.

use std::cell::RefCell;
use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt as _};
use sha2::{Digest as _, Sha256};

use super::plan::{self, Chunk, Pass};
use super::progress::Meter;
use super::repository::{Repository, WeightFile};
use super::transport::Transport;
use crate::error::{Error, ErrorKind, Result};
use crate::hex::to_hex;
use crate::weights::checkpoint::contents::{self, Access, Contents, Parts, Step};
use crate::weights::files::hash_warning;
use crate::weights::load::feed::{Fault, Feed};
use crate::weights::load::sink::Sink;
use crate::weights::shards::manifest::CHUNK;

/// How many chunks are under way at once, each by two requests. They are taken in order, so this
/// also bounds what waits in memory, and what is fetched again after a crash.
const WINDOW: usize = 2;

/// A file whose contents are known.
pub(super) struct Opened<'a, T> {
    repository: &'a Repository<T>,
    name: &'a str,
    url: String,
    file: &'a WeightFile,
    meter: &'a Meter<'a>,
    pub(super) contents: Contents,
    len: u64,
    /// Chunks that came for the sake of the contents and will be wanted again, by their numbers.
    held: RefCell<BTreeMap<u64, Vec<u8>>>,
}

impl<'a, T: Transport> Opened<'a, T> {
    /// Reads what a file holds: of safetensors the first chunk, of what `torch.save` wrote the first
    /// and the last, and more only if they don't say all.
    ///
    /// # Errors
    /// As [`Repository::chunk`]; [`ErrorKind::Format`](crate::ErrorKind::Format) if it is no checkpoint or a broken one,
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if it is of a type that is not read.
    pub(super) async fn new(
        repository: &'a Repository<T>,
        name: &'a str,
        file: &'a WeightFile,
        meter: &'a Meter<'a>,
    ) -> Result<Self> {
        let url = repository.url(name);
        let first = Chunk::of(0, file.known_len().unwrap_or(CHUNK));
        let expected = RefCell::new(0_u64);
        let arrived = |bytes| {
            if let Some(len) = file.known_len() {
                let limit = (*expected.borrow()).max(len.min(CHUNK));
                meter.add_first(bytes, limit, len);
            }
        };
        let start = repository.chunk(file, &first, &arrived).await?;
        let len = file.known_len().unwrap_or(start.len() as u64);
        let first = Chunk::of(0, len);
        check_length(&url, &first, &start)?;
        expected.replace(start.len() as u64);

        let mut chunks = vec![first];
        let mut parts = Parts::new(len);
        parts.insert(0, start);
        let mut is_fresh = false;
        let contents = loop {
            let error = match contents::read(&parts, Access::Ranges) {
                Ok(Step::Done(contents)) => break contents,
                Ok(Step::Need(range)) => {
                    let mut needed = plan::chunks(&[range], len);
                    needed.retain(|chunk| !chunks.contains(chunk));
                    if needed.is_empty() {
                        // What was needed is here, so it never asks for it again.
                        return Err(Error::format(format!("{url}: can't be read in parts")));
                    }
                    for chunk in needed {
                        *expected.borrow_mut() += chunk.range.end - chunk.range.start;
                        let bytes = repository.chunk(file, &chunk, &arrived).await?;
                        check_length(&url, &chunk, &bytes)?;
                        parts.insert(chunk.range.start, bytes);
                        chunks.push(chunk);
                    }
                    continue;
                }
                Err(error) => error.at(&url),
            };
            if error.kind() != ErrorKind::Integrity || is_fresh {
                if is_fresh {
                    repository.blank(file, &chunks).await;
                }
                if parts.begins_with_markup() {
                    // Static hosts show a page for every address that they don't know.
                    repository.client().note_absent(name, false);
                }
                return Err(file.blame(error));
            }
            // A checksum is wrong: once more, past the cache.
            is_fresh = true;
            for chunk in &chunks {
                let bytes = repository.refetch(file, chunk).await?;
                check_length(&url, chunk, &bytes)?;
                parts.insert(chunk.range.start, bytes);
            }
        };
        let mut held: BTreeMap<u64, Vec<u8>> = parts
            .into_inner()
            .into_iter()
            .map(|(start, bytes)| (start / CHUNK, bytes))
            .collect();
        let last = len.saturating_sub(1) / CHUNK;
        // The chunks between, which only a long header takes, are not held.
        held.retain(|number, _| *number == 0 || *number == last);
        Ok(Self {
            repository,
            name,
            url,
            file,
            meter,
            contents,
            len,
            held: RefCell::new(held),
        })
    }

    /// The file, for messages.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Hands over the tensors of some passes. A record whose checksum is wrong is fetched once more,
    /// past the cache.
    ///
    /// # Errors
    /// As [`Repository::chunk`]; [`ErrorKind::Integrity`](crate::ErrorKind::Integrity) if a record's checksum is twice wrong; and what
    /// the sink returns.
    pub(super) async fn read(&self, passes: &[Pass], sink: &mut dyn Sink) -> Result<()> {
        let mut chunks: Vec<Chunk> = Vec::new();
        for pass in passes {
            let own = plan::chunks(std::slice::from_ref(&pass.range), self.len);
            let is_here = |chunk: &Chunk| chunks.last() == Some(chunk);
            let from = usize::from(own.first().is_some_and(is_here));
            chunks.extend_from_slice(own.get(from..).unwrap_or_default());
        }
        let here = |chunk: &&Chunk| self.held.borrow().contains_key(&chunk.number);
        let bytes = |chunk: &Chunk| chunk.range.end - chunk.range.start;
        let came: u64 = self
            .held
            .borrow()
            .values()
            .map(|bytes| bytes.len() as u64)
            .sum();
        let to_come: u64 = chunks.iter().filter(|c| !here(c)).map(bytes).sum();
        self.meter.expect(came, came.saturating_add(to_come));

        // The hash of a whole file says something only if all of it is read, in order.
        let is_whole = (0..self.len.div_ceil(CHUNK)).eq(chunks.iter().map(|chunk| chunk.number));
        let published = crate::weights::files::published_sha256(self.name).is_some();
        let mut hasher =
            (is_whole && (published || self.file.whole_hash().is_some())).then(Sha256::new);

        let fetched = stream::iter(chunks)
            .map(|chunk| {
                let held = self.held.borrow_mut().remove(&chunk.number);
                async move {
                    let bytes = match held {
                        Some(bytes) => bytes,
                        None => {
                            let arrived = |bytes| self.meter.add(bytes);
                            self.repository.chunk(self.file, &chunk, &arrived).await?
                        }
                    };
                    check_length(&self.url, &chunk, &bytes)?;
                    Ok::<_, Error>((chunk, bytes))
                }
            })
            .buffered(WINDOW);
        let mut fetched = std::pin::pin!(fetched);
        let mut current: Option<(Chunk, Vec<u8>)> = None;
        for pass in passes {
            let own = plan::chunks(std::slice::from_ref(&pass.range), self.len);
            let mut feed = Feed::new(&self.contents, &self.url, &pass.tensors);
            let mut fault = None;
            for wanted in &own {
                if current.as_ref().is_none_or(|(chunk, _)| chunk != wanted) {
                    current = fetched.next().await.transpose()?;
                    if let (Some(hasher), Some((_, bytes))) = (&mut hasher, &current) {
                        hasher.update(bytes);
                    }
                }
                let bytes = current.as_ref().map_or(&[][..], |(_, bytes)| bytes);
                if fault.is_none() {
                    let part = plan::part(bytes, &wanted.range, &pass.range);
                    fault = feed.push(part, sink).err();
                }
            }
            let fault = match fault {
                None => feed.finish(sink).err(),
                fault => fault,
            };
            match fault {
                None => {}
                Some(Fault::Sink(error)) => return Err(self.file.blame(error)),
                Some(Fault::Record(_)) => {
                    // What was read is no measure of the file any more.
                    hasher = None;
                    current = Some(self.read_again(pass, &own, sink).await?);
                }
            }
        }
        let Some(hasher) = hasher else {
            return Ok(());
        };
        let hash: [u8; 32] = hasher.finalize().into();
        if self.file.whole_hash().is_some_and(|whole| whole != hash) {
            return Err(self.repository.wrong_file(self.file));
        }
        if let Some(warning) = hash_warning(self.name, &to_hex(&hash)) {
            self.repository.warn(&warning);
        }
        Ok(())
    }

    /// A pass once more, with bytes that come from the server; the last of its chunks.
    async fn read_again(
        &self,
        pass: &Pass,
        chunks: &[Chunk],
        sink: &mut dyn Sink,
    ) -> Result<(Chunk, Vec<u8>)> {
        let mut feed = Feed::new(&self.contents, &self.url, &pass.tensors);
        let mut last = None;
        let mut fault = None;
        for chunk in chunks {
            let bytes = self.repository.refetch(self.file, chunk).await?;
            check_length(&self.url, chunk, &bytes)?;
            let part = plan::part(&bytes, &chunk.range, &pass.range);
            fault = feed.push(part, sink).err();
            last = Some((chunk.clone(), bytes));
            if fault.is_some() {
                break;
            }
        }
        let fault = match fault {
            None => feed.finish(sink).err(),
            fault => fault,
        };
        match (fault, last) {
            (None, Some(last)) => Ok(last),
            (None, None) => Err(Error::format(format!("{}: a record is empty", self.url))),
            (Some(Fault::Sink(error)), _) => Err(self.file.blame(error)),
            (Some(Fault::Record(error)), _) => {
                self.repository.blank(self.file, chunks).await;
                Err(error)
            }
        }
    }
}

fn check_length(url: &str, chunk: &Chunk, bytes: &[u8]) -> Result<()> {
    let expected = chunk.range.end - chunk.range.start;
    if bytes.len() as u64 == expected {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Integrity,
        format!(
            "{url}: {} bytes came where {expected} belong; load the model again",
            bytes.len()
        ),
    ))
}
