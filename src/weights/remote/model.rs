//! A location to a model.

use std::ops::Range;

use futures_util::stream::{self, StreamExt as _};

use super::client::{Client, RemoteFile};
use super::plan::{self, CHUNK, Chunk};
use super::progress::{Event, Meter};
use super::transport::Transport;
use crate::config::Config;
use crate::device::backend::AimBackend;
use crate::error::{At as _, Error, ErrorKind, Result};
use crate::labels::Labels;
use crate::precision::Precision;
use crate::weights::assemble::{Arriving, Assembler, Loaded};
use crate::weights::index::{INDEX_FILE, Index};
use crate::weights::inventory::{Inventory, Located};
use crate::weights::safetensors::Header;

/// How many chunks are under way at once. They are taken in order, so this also bounds what waits
/// in memory.
const WINDOW: usize = 4;

/// The checkpoint of a model that is in one file.
const SINGLE_FILE: &str = "model.safetensors";

/// A model on a server, whose configuration has been read.
pub struct RemoteModel<'a, T> {
    /// The model's shape.
    pub config: Config,
    /// The model's classes.
    pub labels: Labels,
    client: Client<'a, T>,
    files: Vec<String>,
}

/// A tensor whose bytes lie in a file.
struct Needed {
    located: Located,
    range: Range<u64>,
}

impl<'a, T: Transport> RemoteModel<'a, T> {
    /// Reads the configuration, the labels and the list of files.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no `config.json`; those of
    /// [`Client::text`], [`Config::from_json`] and [`Labels::from_json`].
    pub async fn open(client: Client<'a, T>) -> Result<Self> {
        let text = client.text("config.json").await?.ok_or_else(|| {
            Error::not_found(format!(
                "{}: there is no such file, so this is no model; check its name",
                client.url("config.json")
            ))
        })?;
        let config = Config::from_json(&text).at(client.url("config.json"))?;
        let (labels, place) = match client.text("labels.json").await? {
            Some(labels) => (labels, "labels.json"),
            None => (text, "config.json"),
        };
        let labels = Labels::from_json(&labels, config.num_classes)
            .at(client.url(place))?
            .unwrap_or_else(|| Labels::unnamed(config.num_classes));
        let files = match client.text(INDEX_FILE).await? {
            Some(index) => {
                let index = Index::from_json(&index).at(client.url(INDEX_FILE))?;
                index.files().to_vec()
            }
            None => vec![SINGLE_FILE.to_owned()],
        };
        Ok(Self {
            config,
            labels,
            client,
            files,
        })
    }

    /// Fetches the chunks that hold the probe and the first `blocks` blocks, and moves their
    /// tensors to the device as they arrive.
    ///
    /// # Errors
    /// Those of [`Client::range`], [`Header::parse`], [`Inventory`] and [`Assembler`].
    pub async fn load<B: AimBackend>(
        self,
        blocks: usize,
        precision: Precision,
        device: &B::Device,
        report: &dyn Fn(Event),
    ) -> Result<Loaded<B>> {
        let meter = Meter::new(report, 0);
        let mut inventory = Inventory::new(&self.config);
        let mut model =
            Assembler::<B>::new(self.config.clone(), blocks, precision, device.clone())?;
        for name in &self.files {
            meter.start(name);
            self.load_file(name, blocks, &mut inventory, &mut model, &meter)
                .await?;
            meter.done();
        }
        inventory.finish().at(self.files.join(", "))?;
        model.finish()
    }

    async fn load_file<B: AimBackend>(
        &self,
        name: &str,
        blocks: usize,
        inventory: &mut Inventory,
        model: &mut Assembler<B>,
        meter: &Meter<'_>,
    ) -> Result<()> {
        let file = RemoteFile::new(name);
        let url = self.client.url(name);

        // The first chunk brings the header, and nearly always tensors.
        let mut start = self.client.range(&file, 0..CHUNK, &|_| {}).await?;
        let len = file
            .pinned()
            .map_or(start.len() as u64, |pinned| pinned.len);
        let first = start.len() as u64;
        loop {
            let needed = Header::needed(&start, len).at(&url)? as u64;
            let have = start.len() as u64;
            if needed <= have {
                break;
            }
            start.extend(self.client.range(&file, have..needed, &|_| {}).await?);
        }
        let header = Header::parse(&start, len).at(&url)?;
        start.truncate(first as usize);

        let mut needed: Vec<Needed> = inventory
            .take(&url, header.tensors())?
            .into_iter()
            .filter(|located| located.spec.is_needed(blocks))
            .filter_map(|located| {
                let range = header.range(located.index)?;
                Some(Needed { located, range })
            })
            .collect();
        needed.sort_by_key(|needed| needed.range.start);
        let ranges: Vec<_> = needed.iter().map(|needed| needed.range.clone()).collect();
        let chunks = plan::chunks(&ranges, len);
        meter.expect(
            chunks
                .iter()
                .map(|chunk| chunk.range.end - chunk.range.start)
                .sum(),
        );

        let fetched = stream::iter(chunks)
            .map(|chunk| {
                let start = (chunk.number == 0).then(|| std::mem::take(&mut start));
                let file = &file;
                async move {
                    let bytes = match start {
                        Some(bytes) => {
                            meter.add(bytes.len() as u64);
                            bytes
                        }
                        None => {
                            let range = chunk.range.clone();
                            self.client
                                .range(file, range, &|bytes| meter.add(bytes))
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
        let mut arriving: Option<(Arriving, Range<u64>)> = None;
        while let Some(chunk) = fetched.next().await {
            let (chunk, bytes) = chunk?;
            loop {
                let (mut tensor, range) = match arriving.take() {
                    Some(tensor) => tensor,
                    None => match needed.next_if(|next| next.range.start < chunk.range.end) {
                        Some(Needed { located, range }) => {
                            let info = &header.tensors()[located.index];
                            (model.begin(located, info).at(&url)?, range)
                        }
                        None => break,
                    },
                };
                let place = format!("{url}: tensor {}", tensor.name());
                let part = plan::part(&bytes, &chunk.range, &range);
                tensor.push(part).at(&place)?;
                if range.end > chunk.range.end {
                    arriving = Some((tensor, range));
                    break;
                }
                model.add(tensor).at(&place)?;
            }
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
                self.client.url(name),
                bytes.len()
            ),
        ))
    }
}
