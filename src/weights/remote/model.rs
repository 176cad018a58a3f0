//! A location to a model.

use std::collections::HashMap;
use std::rc::Rc;

use super::plan;
use super::progress::{Event, Meter, Share};
use super::repository::Repository;
use super::stream::Opened;
use super::transport::Transport;
use crate::config::{Config, Family, ProbeLayers};
use crate::error::{At as _, Error, ErrorKind, Result};
use crate::labels::{LABELS_FILE, Labels};
use crate::probe::file::{HEAD_FILE, HeadFile, Trunk, check_len};
use crate::weights::checkpoint::contents::{self, Access, Contents, Parts, Step};
use crate::weights::files::{ApplePair, Candidate};
use crate::weights::inventory::Inventory;
use crate::weights::layout::TensorSpec;
use crate::weights::load::sink::Sink;
use crate::weights::shards::index::Index;

/// How much of a file is read to see what it is: all that is needed of most.
const FRONT_GUESS: u64 = 64 << 10;

/// A model on a server, whose configuration has been read.
pub struct RemoteModel<T> {
    /// The model's shape.
    pub config: Config,
    /// The model's classes.
    pub labels: Labels,
    repository: Rc<Repository<T>>,
    files: Files,
    /// Whether it is a head alone, whose trunk lies elsewhere.
    is_head: bool,
}

/// What is wanted of a location, as far as it doesn't say that itself.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The released model whose checkpoint lies there.
    pub arch: Option<Family>,
    /// The configuration, in place of the one that lies there.
    pub config: Option<Config>,
    /// The layers whose mean the probe reads, in place of those of the configuration.
    pub probe_layers: Option<ProbeLayers>,
    /// The one file that holds the model.
    pub file: Option<String>,
}

/// Where the tensors are.
enum Files {
    /// In these files.
    Listed(Vec<String>),
    /// In the files of an index of this name.
    Indexed(&'static str, Index),
    /// In the first candidate that is there, else in this pair, on a server that doesn't say what it has.
    Sought(Option<ApplePair>),
}

/// What a file on a server holds.
#[derive(Clone, Debug)]
pub struct RemoteFront {
    /// The file's URL.
    pub url: String,
    /// Its length in bytes.
    pub len: u64,
    /// Its tensors, and where they are.
    pub contents: Contents,
}

impl RemoteFront {
    /// Reads what a file holds: its first bytes and, of a zip archive, its last ones, and no more than a
    /// little beside that.
    ///
    /// # Errors
    /// [`ErrorKind::Network`] if the server can't be reached or keeps failing, [`ErrorKind::NotFound`] if there is no such file or it may not
    /// be read, [`ErrorKind::Integrity`] if it changes meanwhile, [`ErrorKind::Format`] if it is no checkpoint or a broken one,
    /// [`ErrorKind::Unsupported`] if it is of a type that is not read or the server sends no ranges, and [`ErrorKind::Aborted`].
    pub async fn read<T: Transport>(repository: &Repository<T>, name: &str) -> Result<Self> {
        let url = repository.url(name);
        let file = repository.file(name).await?;
        let start = repository.peek(&file, 0..FRONT_GUESS).await?;
        let len = file.known_len().unwrap_or(start.len() as u64);
        let mut parts = Parts::new(len);
        parts.insert(0, start);
        loop {
            match contents::read(&parts, Access::Ranges).at(&url)? {
                Step::Done(contents) => return Ok(Self { url, len, contents }),
                Step::Need(range) => {
                    let bytes = repository.peek(&file, range.clone()).await?;
                    if bytes.len() as u64 != range.end - range.start {
                        return Err(Error::new(
                            ErrorKind::Integrity,
                            format!("{url}: ends early; load the model again"),
                        ));
                    }
                    parts.insert(range.start, bytes);
                }
            }
        }
    }
}

impl<T: Transport> RemoteModel<T> {
    /// Reads the configuration, the labels and the list of files.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no `config.json` and `wanted` does not say what it would;
    /// [`ErrorKind::Option`] if there are several models; those of [`Repository::text`],
    /// [`Config::of_repository`], [`Config::with_probe_layers`], [`Labels::from_json`] and
    /// [`Index::from_json`].
    pub async fn open(repository: Repository<T>, wanted: &Wanted) -> Result<Self> {
        let (config, labels, is_head) = match (&wanted.config, wanted.arch) {
            (Some(config), _) => (config.clone(), None, false),
            (None, Some(family)) => (family.config(), None, false),
            (None, None) => Self::read_config(&repository).await?,
        };
        let labels = labels.unwrap_or_else(|| Labels::unnamed(config.num_classes));
        let config = match &wanted.probe_layers {
            Some(layers) => config.with_probe_layers(layers)?,
            None => config,
        };
        let files = if is_head {
            Files::Listed(vec![HEAD_FILE.to_owned()])
        } else {
            Self::find(&repository, wanted, &config).await?
        };
        Ok(Self {
            config,
            labels,
            repository: Rc::new(repository),
            files,
            is_head,
        })
    }

    /// The head, if it is one alone: a trunk, which lies where that says, has to be opened in this one's place.
    ///
    /// # Errors
    /// As [`RemoteFront::read`]; [`ErrorKind::Format`] if it is a broken head, [`ErrorKind::Unsupported`] if it is too large to be one.
    pub async fn head_alone(&self) -> Result<Option<HeadFile>> {
        if !self.is_head {
            return Ok(None);
        }
        let url = self.repository.url(HEAD_FILE);
        let file = self.repository.file(HEAD_FILE).await?;
        let mut bytes = self.repository.peek(&file, 0..FRONT_GUESS).await?;
        let len = file.known_len().unwrap_or(bytes.len() as u64);
        check_len(len).at(&url)?;
        let here = bytes.len() as u64;
        if here < len {
            bytes.extend(self.repository.peek(&file, here..len).await?);
        }
        let head = HeadFile::from_bytes(&bytes).at(url)?;
        Ok(Some(head))
    }

    /// The model's own configuration, and its labels if it names them.
    async fn read_config(repository: &Repository<T>) -> Result<(Config, Option<Labels>, bool)> {
        let Some(text) = repository.text("config.json").await? else {
            let families = ApplePair::families(|name| repository.is_listed(name));
            let is_refused = repository.client().absence("config.json") == Some(false);
            return match families.as_slice() {
                [] if is_refused => Err(Error::not_found(format!(
                    "{}: the server answered 403: there is no such file, or it may not be read; check the address, and whether the folder is public",
                    repository.url("config.json")
                ))),
                [] => Err(Error::not_found(format!(
                    "{}: there is no such file, so this is no model; check its name",
                    repository.url("config.json")
                ))),
                [family] => Ok((family.config(), None, false)),
                _ => Err(Error::option(format!(
                    "{} holds several models: choose one by the option arch, such as {}",
                    repository.client().location().name,
                    Family::Aim600M
                ))),
            };
        };
        let name = &repository.client().location().name;
        let read = Config::of_repository(&text, name)
            .and_then(|config| Ok((config, Trunk::of_config(&text)?.is_some())));
        let (config, is_head) = match read {
            Ok(read) => read,
            Err(error) => {
                repository.forget_text("config.json").await;
                return Err(error.at(repository.url("config.json")));
            }
        };
        let (labels, place) = match repository.text(LABELS_FILE).await? {
            Some(labels) => (labels, LABELS_FILE),
            None => (text, "config.json"),
        };
        match Labels::from_json(&labels, config.num_classes) {
            Ok(labels) => Ok((config, labels, is_head)),
            Err(error) => {
                repository.forget_text(place).await;
                Err(error.at(repository.url(place)))
            }
        }
    }

    /// Finds out which files hold the tensors: from what the hub says of the repository, so that
    /// nothing is asked for that is not there.
    async fn find(repository: &Repository<T>, wanted: &Wanted, config: &Config) -> Result<Files> {
        if let Some(file) = &wanted.file {
            return Ok(Files::Listed(vec![file.clone()]));
        }
        if !repository.has_listing() {
            // Folders that were made for a browser have one.
            let index = Candidate::ALL[0];
            if let Some(index) = Self::read_index(repository, index.name()).await? {
                return Ok(index);
            }
            let listed = Candidate::ALL
                .into_iter()
                .filter(|candidate| matches!(candidate, Candidate::Checkpoint(_)))
                .map(Candidate::name)
                .find(|name| repository.is_in_manifest(name));
            return Ok(match (listed, wanted.arch) {
                (Some(name), _) => Files::Listed(vec![name.to_owned()]),
                (None, Some(family)) => {
                    Files::Sought(Some(ApplePair::new(family, wanted.probe_layers.as_ref())))
                }
                (None, None) => Files::Sought(None),
            });
        }
        for candidate in Candidate::ALL {
            let name = candidate.name();
            if !repository.may_have(name) {
                continue;
            }
            match candidate {
                Candidate::Checkpoint(_) => return Ok(Files::Listed(vec![name.to_owned()])),
                Candidate::Index(_) => {
                    if let Some(index) = Self::read_index(repository, name).await? {
                        return Ok(index);
                    }
                }
            }
        }
        let family = wanted.arch.or_else(|| Family::of(config));
        let pair = family.map(|family| ApplePair::new(family, wanted.probe_layers.as_ref()));
        match pair {
            Some(pair) if pair.names().iter().all(|name| repository.is_listed(name)) => {
                if let Some(warning) = pair.warning() {
                    repository.warn(&warning);
                }
                Ok(Files::Listed(pair.names()))
            }
            _ => Err(Error::not_found(format!(
                "{} holds none of {}: is it a model of AIM?",
                repository.client().location().name,
                Candidate::names()
            ))),
        }
    }

    async fn read_index(repository: &Repository<T>, name: &'static str) -> Result<Option<Files>> {
        let Some(text) = repository.text(name).await? else {
            return Ok(None);
        };
        match Index::from_json(&text) {
            Ok(index) => Ok(Some(Files::Indexed(name, index))),
            Err(error) => {
                repository.forget_text(name).await;
                Err(error.at(repository.url(name)))
            }
        }
    }

    /// Where its files are.
    pub const fn repository(&self) -> &Rc<Repository<T>> {
        &self.repository
    }

    /// Fetches the chunks that hold the tensors that `sink` wants, and hands them over in the order
    /// of the files.
    ///
    /// # Errors
    /// As [`RemoteFront::read`]; [`ErrorKind::Integrity`] if bytes are twice not those of their hash, [`ErrorKind::NotFound`] if a tensor of
    /// the model is in no file, [`ErrorKind::Format`] if one is of no such model; and what the sink returns.
    pub async fn stream(&self, sink: &mut dyn Sink, report: &dyn Fn(Event)) -> Result<()> {
        match &self.files {
            Files::Listed(files) => self.stream_files(files, None, sink, report).await,
            Files::Indexed(name, index) => {
                let index = Some((*name, index));
                self.stream_files(&[], index, sink, report).await
            }
            Files::Sought(pair) => {
                let mut sought = Sought::default();
                for candidate in &Candidate::ALL[1..] {
                    let name = candidate.name();
                    match candidate {
                        Candidate::Checkpoint(_) => {
                            let files = [name.to_owned()];
                            let done = self.stream_files(&files, None, sink, report).await;
                            match (done, self.repository.absence(name)) {
                                (Err(error), Some(is_certain)) => sought.note(error, is_certain),
                                (done, _) => return done,
                            }
                        }
                        Candidate::Index(_) => {
                            let index = Self::read_index(&self.repository, name).await?;
                            if let Some(Files::Indexed(name, index)) = index {
                                let index = Some((name, &index));
                                return self.stream_files(&[], index, sink, report).await;
                            }
                        }
                    }
                }
                match pair {
                    Some(pair) => {
                        if let Some(warning) = pair.warning() {
                            self.repository.warn(&warning);
                        }
                        self.stream_files(&pair.names(), None, sink, report).await
                    }
                    None => Err(sought.error(&self.repository)),
                }
            }
        }
    }

    /// Streams the given files, or those of an index of the given name.
    async fn stream_files(
        &self,
        files: &[String],
        index: Option<(&str, &Index)>,
        sink: &mut dyn Sink,
        report: &dyn Fn(Event),
    ) -> Result<()> {
        let files = index.map_or(files, |(_, index)| index.files());
        let mut inventory = Inventory::new(&self.config);
        let shares = shares(files, index.map(|(_, index)| index), sink, &inventory);
        let values = shares.values().map(|share| share.wanted);
        let meter = Meter::new(report, values.fold(0, u64::saturating_add));
        for name in files {
            if let Some((place, index)) = index
                && is_idle(index, name, sink, &inventory)
            {
                // What is in a file that is not touched is known from the index alone.
                let tensors: Vec<&str> = index.tensors_of(name).collect();
                inventory
                    .trust(name, &tensors)
                    .at(self.repository.url(place))?;
                continue;
            }
            meter.start(name, shares.get(name.as_str()).copied().unwrap_or_default());
            let file = self.repository.file(name).await?;
            let streaming = async {
                let opened = Opened::new(&self.repository, name, &file, &meter).await?;
                if let Some((_, index)) = index {
                    let tensors = opened.contents.tensors();
                    index.check(name, tensors).at(opened.url())?;
                }
                let mut needed = inventory.take(opened.url(), opened.contents.tensors())?;
                needed.retain(|located| sink.wants(&located.spec));
                let passes = plan::passes(&opened.contents, needed);
                opened.read(&passes, sink).await
            };
            if let Err(error) = streaming.await {
                self.repository.forget(&file, &error).await;
                return Err(error);
            }
            meter.done();
        }
        inventory.finish().at(files.join(", "))?;
        self.repository.complete().await;
        Ok(())
    }

    /// Reads what each file holds, and no more than a little beside that.
    ///
    /// # Errors
    /// As [`RemoteFront::read`].
    pub async fn fronts(&self) -> Result<Vec<RemoteFront>> {
        match &self.files {
            Files::Listed(files) => self.fronts_of(files).await,
            Files::Indexed(_, index) => self.fronts_of(index.files()).await,
            Files::Sought(pair) => {
                let mut sought = Sought::default();
                for candidate in &Candidate::ALL[1..] {
                    let name = candidate.name();
                    match candidate {
                        Candidate::Checkpoint(_) => {
                            let front = RemoteFront::read(&self.repository, name).await;
                            match (front, self.repository.absence(name)) {
                                (Err(error), Some(is_certain)) => sought.note(error, is_certain),
                                (front, _) => return Ok(vec![front?]),
                            }
                        }
                        Candidate::Index(_) => {
                            let index = Self::read_index(&self.repository, name).await?;
                            if let Some(Files::Indexed(_, index)) = index {
                                return self.fronts_of(index.files()).await;
                            }
                        }
                    }
                }
                match pair {
                    Some(pair) => self.fronts_of(&pair.names()).await,
                    None => Err(sought.error(&self.repository)),
                }
            }
        }
    }

    async fn fronts_of(&self, files: &[String]) -> Result<Vec<RemoteFront>> {
        let mut fronts = Vec::with_capacity(files.len());
        for name in files {
            fronts.push(RemoteFront::read(&self.repository, name).await?);
        }
        Ok(fronts)
    }
}

/// What came of looking for files that are not there.
#[derive(Default)]
struct Sought {
    /// Of one that may be there: why it can't be read. Else of the first.
    error: Option<Error>,
    is_certain: bool,
}

impl Sought {
    fn note(&mut self, error: Error, is_certain: bool) {
        if self.error.is_none() || self.is_certain && !is_certain {
            self.error = Some(error);
            self.is_certain = is_certain;
        }
    }

    /// The error of a folder in which there is no model.
    fn error<T: Transport>(self, repository: &Repository<T>) -> Error {
        match self.error {
            Some(error) if !self.is_certain => error,
            _ => Error::not_found(format!(
                "{}: there is no such file, nor another of {}",
                repository.url(Candidate::ALL[1].name()),
                Candidate::names()
            )),
        }
    }
}

/// How much the sink wants of each file, as far as can be told before any is read.
fn shares<'a>(
    files: &'a [String],
    index: Option<&'a Index>,
    sink: &dyn Sink,
    inventory: &Inventory,
) -> HashMap<&'a str, Share> {
    let mut shares = HashMap::<&str, Share>::new();
    let mut add = |file, spec: &TensorSpec| {
        let values: u64 = spec.shape.iter().map(|&side| side as u64).product();
        let share = shares.entry(file).or_default();
        share.all += values;
        if sink.wants(spec) {
            share.wanted += values;
        }
    };
    match (index, files) {
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
        // Apple's pair.
        (None, [backbone, head]) => {
            for spec in inventory.specs() {
                let is_head = spec.name.starts_with("head.");
                add(if is_head { head } else { backbone }, spec);
            }
        }
        // Which file holds what is not known.
        (None, _) => {}
    }
    shares
}

/// True if an index says that a file holds nothing the sink wants: then it is not touched.
fn is_idle(index: &Index, name: &str, sink: &dyn Sink, inventory: &Inventory) -> bool {
    let mut tensors = index.tensors_of(name);
    !tensors.any(|tensor| inventory.spec(tensor).is_none_or(|spec| sink.wants(spec)))
}
