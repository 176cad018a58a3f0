//! A location to a model.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use futures_util::stream::{self, StreamExt as _};
use sha2::{Digest as _, Sha256};

use super::plan::{self, Chunk};
use super::progress::{Event, Meter, Share};
use super::repository::{Repository, WeightFile};
use super::transport::Transport;
use crate::config::Config;
use crate::error::{At as _, Error, ErrorKind, Result};
use crate::labels::{LABELS_FILE, Labels};
use crate::weights::checkpoint::safetensors::Header;
use crate::weights::inventory::{Inventory, Located};
use crate::weights::layout::TensorSpec;
use crate::weights::load::sink::Sink;
use crate::weights::shards::index::{INDEX_FILE, Index};
use crate::weights::shards::manifest::CHUNK;

/// How many chunks are under way at once, each by two requests. They are taken in order, so this
/// also bounds what waits in memory, and what is fetched again after a crash.
const WINDOW: usize = 2;

/// How much of a file is read to see its header alone: enough for most.
const HEADER_GUESS: u64 = 64 << 10;

/// The checkpoint of a model that is in one file.
pub const SINGLE_FILE: &str = "model.safetensors";

/// A model on a server, whose configuration has been read.
pub struct RemoteModel<T> {
    /// The model's shape.
    pub config: Config,
    /// The model's classes.
    pub labels: Labels,
    repository: Rc<Repository<T>>,
    files: Vec<String>,
    /// Which tensors the files hold, where the model says it.
    index: Option<Index>,
}

/// A tensor whose bytes lie in a file.
struct Needed {
    located: Located,
    range: Range<u64>,
}

/// The header of a file on a server.
#[derive(Clone, Debug)]
pub struct RemoteHeader {
    /// The file's URL.
    pub url: String,
    /// Its length in bytes.
    pub len: u64,
    /// Its tensors, and where they are.
    pub header: Header,
}

impl RemoteHeader {
    /// Reads it, and no more than a little of what comes after it.
    ///
    /// # Errors
    /// Those of [`Client::range`](super::client::Client::range) and [`Header::parse`].
    pub async fn read<T: Transport>(repository: &Repository<T>, name: &str) -> Result<Self> {
        let url = repository.url(name);
        let (start, len) = repository.start(name, HEADER_GUESS).await?;
        let needed = Header::needed(&start, len).at(&url)? as u64;
        let (start, len) = if needed > start.len() as u64 {
            repository.start(name, needed).await?
        } else {
            (start, len)
        };
        let header = Header::parse(&start, len).at(&url)?;
        Ok(Self { url, len, header })
    }
}

impl<T: Transport> RemoteModel<T> {
    /// Reads the configuration, the labels and the list of files.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no `config.json`; those of
    /// [`Repository::text`], [`Config::of_repository`] and [`Labels::from_json`].
    pub async fn open(repository: Repository<T>) -> Result<Self> {
        let text = repository.text("config.json").await?.ok_or_else(|| {
            Error::not_found(format!(
                "{}: there is no such file, so this is no model; check its name",
                repository.url("config.json")
            ))
        })?;
        let name = &repository.client().location().name;
        let config = match Config::of_repository(&text, name) {
            Ok(config) => config,
            Err(error) => {
                repository.forget_text("config.json").await;
                return Err(error.at(repository.url("config.json")));
            }
        };
        let (labels, place) = match repository.text(LABELS_FILE).await? {
            Some(labels) => (labels, LABELS_FILE),
            None => (text, "config.json"),
        };
        let labels = match Labels::from_json(&labels, config.num_classes) {
            Ok(labels) => labels.unwrap_or_else(|| Labels::unnamed(config.num_classes)),
            Err(error) => {
                repository.forget_text(place).await;
                return Err(error.at(repository.url(place)));
            }
        };
        let index = match repository.text(INDEX_FILE).await? {
            None => None,
            Some(text) => match Index::from_json(&text) {
                Ok(index) => Some(index),
                Err(error) => {
                    repository.forget_text(INDEX_FILE).await;
                    return Err(error.at(repository.url(INDEX_FILE)));
                }
            },
        };
        let files = index.as_ref().map_or_else(
            || vec![SINGLE_FILE.to_owned()],
            |index| index.files().to_vec(),
        );
        Ok(Self {
            index,
            ..Self::with_config(repository, config, labels, files)
        })
    }

    /// A model whose configuration and files are known.
    pub fn with_config(
        repository: Repository<T>,
        config: Config,
        labels: Labels,
        files: Vec<String>,
    ) -> Self {
        Self {
            config,
            labels,
            repository: Rc::new(repository),
            files,
            index: None,
        }
    }

    /// The same model in other files of its repository.
    pub fn with_files(mut self, files: Vec<String>) -> Self {
        self.files = files;
        self.index = None;
        self
    }

    /// Where its files are.
    pub const fn repository(&self) -> &Rc<Repository<T>> {
        &self.repository
    }

    /// Fetches the chunks that hold the tensors that `sink` wants, and hands them over in the order
    /// of the files.
    ///
    /// # Errors
    /// Those of [`Repository::chunk`], [`Header::parse`], [`Inventory`] and the sink.
    pub async fn stream(&self, sink: &mut dyn Sink, report: &dyn Fn(Event)) -> Result<()> {
        let mut inventory = Inventory::new(&self.config);
        let shares = self.shares(sink, &inventory);
        let values = shares.values().map(|share| share.wanted);
        let meter = Meter::new(report, values.fold(0, u64::saturating_add));
        for name in &self.files {
            if self.is_idle(name, sink, &mut inventory)? {
                continue;
            }
            meter.start(name, shares.get(name.as_str()).copied().unwrap_or_default());
            let file = self.repository.file(name).await?;
            let loaded = self
                .stream_file(name, &file, &mut inventory, sink, &meter)
                .await;
            if let Err(error) = loaded {
                self.repository.forget(&file, &error).await;
                return Err(error);
            }
            meter.done();
        }
        inventory.finish().at(self.files.join(", "))?;
        self.repository.complete().await;
        Ok(())
    }

    /// How much the sink wants of each file, as far as can be told before any is read.
    fn shares(&self, sink: &dyn Sink, inventory: &Inventory) -> HashMap<&str, Share> {
        let mut shares = HashMap::<&str, Share>::new();
        let mut add = |file, spec: &TensorSpec| {
            let values: u64 = spec.shape.iter().map(|&side| side as u64).product();
            let share = shares.entry(file).or_default();
            share.all += values;
            if sink.wants(spec) {
                share.wanted += values;
            }
        };
        match (&self.index, self.files.as_slice()) {
            (Some(index), _) => {
                for (tensor, file) in index.tensors() {
                    if let Some(spec) = inventory.spec(tensor) {
                        add(file, spec);
                    }
                }
            }
            (None, [file]) => {
                for spec in inventory.specs() {
                    add(file, spec);
                }
            }
            // Which file holds what is not known.
            (None, _) => {}
        }
        shares
    }

    /// True if the index says that a file holds nothing the sink wants: then it is not touched.
    fn is_idle(&self, name: &str, sink: &dyn Sink, inventory: &mut Inventory) -> Result<bool> {
        let Some(index) = &self.index else {
            return Ok(false);
        };
        let tensors: Vec<&str> = index.tensors_of(name).collect();
        let is_wanted = |tensor: &&str| inventory.spec(tensor).is_none_or(|spec| sink.wants(spec));
        if tensors.iter().any(is_wanted) {
            return Ok(false);
        }
        inventory
            .trust(name, &tensors)
            .at(self.repository.url(INDEX_FILE))?;
        Ok(true)
    }

    /// Reads the header of each file, and no more than a little of what comes after it.
    ///
    /// # Errors
    /// Those of [`RemoteHeader::read`].
    pub async fn headers(&self) -> Result<Vec<RemoteHeader>> {
        let mut headers = Vec::with_capacity(self.files.len());
        for name in &self.files {
            headers.push(RemoteHeader::read(&self.repository, name).await?);
        }
        Ok(headers)
    }

    async fn stream_file(
        &self,
        name: &str,
        file: &WeightFile,
        inventory: &mut Inventory,
        sink: &mut dyn Sink,
        meter: &Meter<'_>,
    ) -> Result<()> {
        let url = self.repository.url(name);

        // The first chunk brings the header, and nearly always tensors.
        let chunk = |number: u64, len: u64| Chunk {
            number,
            range: number * CHUNK..((number + 1) * CHUNK).min(len),
        };
        let first_chunk = chunk(0, file.known_len().unwrap_or(CHUNK));
        let arrived = |bytes| {
            if let Some(len) = file.known_len() {
                meter.add_first(bytes, len.min(CHUNK), len);
            }
        };
        let mut start = self.repository.chunk(file, &first_chunk, &arrived).await?;
        let len = file.known_len().unwrap_or(start.len() as u64);
        let first = start.len();
        loop {
            let needed = Header::needed(&start, len).at(&url);
            let needed = needed.map_err(|error| file.blame(error))?;
            if needed <= start.len() {
                break;
            }
            let next = chunk(start.len() as u64 / CHUNK, len);
            let more = self.repository.chunk(file, &next, &|_| {}).await?;
            self.check_length(&next, &more, name)?;
            start.extend(more);
        }
        let header = Header::parse(&start, len).at(&url);
        let header = header.map_err(|error| file.blame(error))?;
        start.truncate(first);
        if let Some(index) = &self.index {
            index.check(name, header.tensors()).at(&url)?;
        }

        let mut needed: Vec<Needed> = inventory
            .take(&url, header.tensors())?
            .into_iter()
            .filter(|located| sink.wants(&located.spec))
            .filter_map(|located| {
                let range = header.range(located.index)?;
                Some(Needed { located, range })
            })
            .collect();
        needed.sort_by_key(|needed| needed.range.start);
        let ranges: Vec<_> = needed.iter().map(|needed| needed.range.clone()).collect();
        let chunks = plan::chunks(&ranges, len);
        let first = first as u64;
        let more = chunks.iter().filter(|chunk| chunk.number > 0);
        let more: u64 = more.map(|chunk| chunk.range.end - chunk.range.start).sum();
        meter.expect(first, first + more);
        // The hash of a whole file says something only if the whole file is read.
        let mut whole = file
            .whole_hash()
            .filter(|_| chunks.len() as u64 == len.div_ceil(CHUNK))
            .map(|hash| (hash, Sha256::new()));

        let fetched = stream::iter(chunks)
            .map(|chunk| {
                let start = (chunk.number == 0).then(|| std::mem::take(&mut start));
                async move {
                    let bytes = match start {
                        Some(bytes) => bytes,
                        None => {
                            self.repository
                                .chunk(file, &chunk, &|bytes| meter.add(bytes))
                                .await?
                        }
                    };
                    self.check_length(&chunk, &bytes, name)?;
                    Ok((chunk, bytes))
                }
            })
            .buffered(WINDOW);
        let mut fetched = std::pin::pin!(fetched);

        let mut needed = needed.into_iter().peekable();
        // The name and place of the tensor that has begun.
        let mut open: Option<(String, Range<u64>)> = None;
        while let Some(chunk) = fetched.next().await {
            let (chunk, bytes) = chunk?;
            if let Some((_, hasher)) = &mut whole {
                hasher.update(&bytes);
            }
            loop {
                let (place, range) = match open.take() {
                    Some(open) => open,
                    None => match needed.next_if(|next| next.range.start < chunk.range.end) {
                        Some(Needed { located, range }) => {
                            let place = format!("{url}: tensor {}", located.spec.name);
                            let info = &header.tensors()[located.index];
                            sink.begin(located, info).at(&url)?;
                            (place, range)
                        }
                        None => break,
                    },
                };
                sink.push(plan::part(&bytes, &chunk.range, &range))
                    .at(&place)
                    .map_err(|error| file.blame(error))?;
                if range.end > chunk.range.end {
                    open = Some((place, range));
                    break;
                }
                sink.end().at(&place).map_err(|error| file.blame(error))?;
            }
        }
        if let Some((hash, hasher)) = whole
            && <[u8; 32]>::from(hasher.finalize()) != hash
        {
            return Err(self.repository.wrong_file(file));
        }
        Ok(())
    }

    fn check_length(&self, chunk: &Chunk, bytes: &[u8], name: &str) -> Result<()> {
        let expected = chunk.range.end - chunk.range.start;
        if bytes.len() as u64 == expected {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Integrity,
            format!(
                "{}: {} bytes came where {expected} belong; load the model again",
                self.repository.url(name),
                bytes.len()
            ),
        ))
    }
}
