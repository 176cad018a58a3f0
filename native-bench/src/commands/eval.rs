//! `aim-bench eval`: accuracy and loss on labelled pictures.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aim_web::classifier::{Classifier, Prediction, predictions};
use aim_web::engine::HostTensor;
use aim_web::hex::to_hex;
use aim_web::{Error, ErrorKind, Result};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::Outcome;
use crate::args::Eval;
use crate::data::{DataSet, classes};
use crate::files::{
    Lock, is_standard_output, make_folder, remove_stale, standard_output, unwritable, write_whole,
};
use crate::inference::Inference;
use crate::output;
use crate::progress::Progress;
use crate::report::counted::{Class, Counted, Of};
use crate::report::counts::Score;
use crate::report::{self, DataId, Mark, ModelId, Report};
use crate::world::World;
use crate::{engine, model};

/// Counts over all pictures, or over this process's part of them. One that can't be read is reported and left out, and the
/// next ones follow.
pub fn run(args: &Eval) -> Result<Outcome> {
    let world = World::find(&args.world)?;
    let results = [("--results-file", args.results_file.as_deref())];
    output::reserve(&results, args.json)?;
    let model = model::open(&args.model)?;
    let data = DataSet::open(&args.data.data_path, args.data.split())?;
    let mapping = data.classes_in(&model.labels)?;
    tell_of(&world, &data, mapping.by);
    let part = args
        .parts
        .as_deref()
        .map(|folder| PartFile::open(folder, &world))
        .transpose()?;
    let report_folder = args
        .report
        .as_deref()
        .map(|folder| own_folder(folder, &world));
    // Before the first picture: many take long.
    if let Some(folder) = &report_folder {
        report::try_folder(folder)?;
    }

    let labels = model.labels.clone();
    let probe_layers = model.config.probe_layers.clone();
    let blocks = model.config.blocks_to_run();
    let loaded = engine::load_in_world(
        model,
        blocks,
        &args.model,
        &world,
        args.data.batch_size as usize,
    )?;
    let device = loaded.device;
    let of = Of {
        model: ModelId {
            name: model::name(&args.model),
            sha256: loaded.sha256,
            dtype: loaded.engine.precision().name().to_owned(),
            probe_layers,
            labels: labels.names().to_vec(),
        },
        data: DataId {
            path: data.path().to_owned(),
            sha256: data.sha256(),
            pictures: data.len() as u64,
            hidden: data.seen().hidden,
            empty_classes: data.seen().empty_classes.clone(),
        },
        exif: args.data.exif,
        classes_by: mapping.by,
        classes: data
            .classes()
            .iter()
            .zip(&mapping.indices)
            .map(|(class, &index)| Class {
                name: class.name.clone(),
                index,
                label: labels.get(index).unwrap_or_default().to_owned(),
            })
            .collect(),
    };
    let share = world.share(data.len());
    let assigned = share.start as u64..share.end as u64;
    let fresh = Counted::new(of, device.name(), [world.rank, world.size], assigned);
    let mut counted = match &part {
        Some(part) => part.resume(fresh)?,
        None => fresh,
    };
    let mut results = args
        .results_file
        .as_deref()
        .map(|path| Results::open(path, &world, &data, &counted))
        .transpose()?;
    let classifier = Classifier::new(loaded.engine, labels)?;

    let inference = Inference {
        data: &data,
        classifier: &classifier,
        device: &device,
        exif: args.data.exif,
        batch_size: loaded.batch,
        threads: loaded.threads,
    };
    let compute = |images: HostTensor| -> Result<HostTensor> {
        let pictures = images.shape.first().copied().unwrap_or(1).max(1);
        let values = engine::wait(&device, classifier.logits(images))?;
        let shape = vec![pictures, values.len() / pictures];
        Ok(HostTensor { shape, values })
    };
    let progress = Progress::new(
        args.data.progress,
        "pictures",
        share.len() as u64,
        counted.next - share.start as u64,
    );
    let mut saving = part
        .as_ref()
        .map(|part| Saving::new(part, args.save_every, counted.next));
    let mut right = counted.total()?.top_1;
    let mut seen = counted.total()?.pictures;
    let first = usize::try_from(counted.next).unwrap_or(share.end);
    let counts = inference.run(first..share.end, &compute, &mut |picture, output| {
        let class = data.class(picture);
        let index = mapping.indices.get(class).copied().unwrap_or_default();
        match output {
            Ok(output) => {
                let score = Score::new(&output.values, index);
                seen += 1;
                right += u64::from(score.above == 0);
                if let Some(results) = &mut results {
                    let top = predictions(&output.values, classifier.labels(), 5);
                    results.push(&data, picture, Ok(top))?;
                }
                counted.add(class, &score, output.not_turned)?;
            }
            Err(error) if args.data.strict => return Err(error),
            Err(error) => {
                progress.aside(|| output::error(&error));
                let reason = output::one_line(&error);
                if let Some(results) = &mut results {
                    results.push(&data, picture, Err(&reason))?;
                }
                counted.add_broken(data.name(picture).into_owned(), reason);
            }
        }
        let note = if seen > 0 {
            format!("top-1 {:.1}%", 100.0 * right as f64 / seen as f64)
        } else {
            String::new()
        };
        progress.advance(1, &note);
        if let Some(saving) = saving.as_mut().filter(|saving| saving.is_due()) {
            saving.save(&mut counted, results.as_mut())?;
        }
        Ok(())
    });
    progress.end();
    // What was counted before an error is kept: the next try goes on from there.
    let saved = match &mut saving {
        Some(saving) => saving.save(&mut counted, results.as_mut()),
        None => results.as_mut().map_or(Ok(()), Results::flush),
    };
    counts.and(saved)?;

    if counted.not_turned() > 0 {
        output::note(&format!(
            "the EXIF orientation of {} pictures is ignored, as the reference does; --exif respect turns them",
            counted.not_turned()
        ));
    }
    if world.size > 1
        && let Some(folder) = &report_folder
    {
        output::note(&format!(
            "{}: is of this process's part alone; merge --report writes that of all",
            folder.display()
        ));
    }
    show(&counted.report()?, report_folder.as_deref(), args.json)
}

/// Shows a report as it is asked for.
pub(super) fn show(report: &Report, folder: Option<&Path>, json: bool) -> Result<Outcome> {
    // Where the one fails there is still the other.
    let shown = if json {
        output::print_json(report)
    } else {
        report::print(report)
    };
    if let Some(folder) = folder {
        report::write_folder(folder, report)?;
    }
    shown?;
    Ok(if report.broken > 0 {
        Outcome::Incomplete
    } else {
        Outcome::Complete
    })
}

/// Tells what a person may not expect.
fn tell_of(world: &World, data: &DataSet, by: classes::By) {
    if world.size > 1 {
        let share = world.share(data.len());
        output::note(&format!(
            "rank {} of {} ({}): pictures {} to {} of {}",
            world.rank,
            world.size,
            world.by,
            share.start,
            share.end,
            data.len()
        ));
    }
    if by == classes::By::Order {
        output::note(
            "not all classes are called as the model's labels: they are taken in their order",
        );
    }
}

/// The file that a process keeps its counts in.
struct PartFile {
    path: PathBuf,
    _lock: Lock,
}

impl PartFile {
    fn open(folder: &Path, world: &World) -> Result<Self> {
        make_folder(folder)?;
        remove_stale(folder);
        let name = part_name(world);
        let path = folder.join(format!("{name}.json"));
        let lock = Lock::new(
            &folder.join(format!(".{name}.lock")),
            &path.display().to_string(),
        )?;
        Ok(Self { path, _lock: lock })
    }

    /// What an earlier process had counted, if it counted the same.
    fn resume(&self, fresh: Counted) -> Result<Counted> {
        if !self.path.exists() {
            return Ok(fresh);
        }
        let counted = read_part(&self.path)?;
        let is_same = counted.of.check_same(&fresh.of).and_then(|()| {
            if counted.assigned == fresh.assigned {
                return Ok(());
            }
            Err(Error::new(ErrorKind::Option, "its pictures are others"))
        });
        is_same.map_err(|error| {
            error.at(format!(
                "{}: is of another evaluation, delete it or take another folder",
                self.path.display()
            ))
        })?;
        Ok(counted)
    }
}

/// Reads what a process has counted.
pub(super) fn read_part(path: &Path) -> Result<Counted> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Format,
        };
        Error::new(kind, format!("{}: {error}", path.display()))
    })?;
    let report: Report = serde_json::from_str(&text).map_err(|error| {
        Error::new(
            ErrorKind::Format,
            format!("{}: is no part of an evaluation: {error}", path.display()),
        )
    })?;
    Counted::from_report(report).map_err(|error| error.at(path.display()))
}

/// When counts are written: often, but for no more than a fiftieth of the time.
struct Saving<'a> {
    part: &'a PartFile,
    last: Instant,
    least: Duration,
    pause: Duration,
    /// What was counted when this process began.
    begun: u64,
}

impl<'a> Saving<'a> {
    fn new(part: &'a PartFile, least: Duration, begun: u64) -> Self {
        Self {
            part,
            last: Instant::now(),
            least,
            pause: least,
            begun,
        }
    }

    fn is_due(&self) -> bool {
        self.last.elapsed() >= self.pause
    }

    fn save(&mut self, counted: &mut Counted, results: Option<&mut Results>) -> Result<()> {
        let start = Instant::now();
        if let Some(results) = results {
            // Before the counts, which say how much of them belongs to these.
            results.sync()?;
            counted.results = results.mark();
        } else if counted.next > self.begun {
            // The file of an earlier process lacks what was counted since: none can be gone on with.
            counted.results = None;
        }
        let text = output::to_json(&counted.report()?)? + "\n";
        write_whole(&self.part.path, text.as_bytes())?;
        self.pause = (start.elapsed() * 50).max(self.least);
        self.last = Instant::now();
        Ok(())
    }
}

/// A picture in the file of results.
#[derive(Serialize)]
struct Line<'a> {
    path: &'a str,
    /// Of which evaluation it is: [`Of::id`].
    of: &'a str,
    /// The class that it is filed under.
    label: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_5: Option<Vec<Prediction>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// What every line of this evaluation begins with that is of this picture.
fn front(path: &str, of: &str) -> String {
    #[derive(Serialize)]
    struct Front<'a> {
        path: &'a str,
        of: &'a str,
    }
    let text = serde_json::to_string(&Front { path, of }).unwrap_or_default();
    text.trim_end_matches('}').to_owned()
}

/// The file of results: a line for each picture.
struct Results {
    file: BufWriter<File>,
    path: PathBuf,
    of: String,
    bytes: u64,
    /// Over these bytes.
    hash: Sha256,
    /// False for a device or a pipe, which has no length.
    is_file: bool,
}

impl Results {
    /// Begins the file, or goes on with what belongs to the counts. A file that is there and not of this evaluation stays as
    /// it is.
    fn open(path: &Path, world: &World, data: &DataSet, counted: &Counted) -> Result<Self> {
        let path = own_name(path, world);
        let of = counted.of.id();
        let error = |error: std::io::Error| unwritable(&path, &error);
        let is_begun = counted.next > counted.assigned.start;
        if is_special(&path) {
            let file = match standard_output(&path) {
                Some(file) => file,
                None => OpenOptions::new().write(true).open(&path),
            };
            let file = file.map_err(error)?;
            if is_begun {
                output::note(&format!(
                    "{}: is no file, it gets only what is counted from here on",
                    path.display()
                ));
            }
            return Ok(Self {
                file: BufWriter::new(file),
                path,
                of,
                bytes: 0,
                hash: Sha256::new(),
                is_file: false,
            });
        }
        let mark = match &counted.results {
            Some(mark) if is_begun => mark.clone(),
            None if is_begun => {
                return Err(Error::new(
                    ErrorKind::Option,
                    format!(
                        "{}: some of the counts in --parts were made without results: delete their part to begin anew",
                        path.display()
                    ),
                ));
            }
            _ => Mark::default(),
        };
        let too_short = |there: u64| {
            Error::new(
                ErrorKind::Integrity,
                format!(
                    "{}: has {there} bytes, but {} belong to the counts in --parts: delete their part to begin anew",
                    path.display(),
                    mark.bytes
                ),
            )
        };
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(!is_begun)
            .truncate(false)
            .open(&path);
        let mut file = match opened {
            Err(absent) if is_begun && absent.kind() == std::io::ErrorKind::NotFound => {
                return Err(too_short(0));
            }
            opened => opened.map_err(error)?,
        };
        let there = file.metadata().map_err(error)?.len();
        if there < mark.bytes {
            return Err(too_short(there));
        }
        let hash = if is_begun {
            let hash = hash_of(&mut file, mark.bytes).map_err(error)?;
            if to_hex(&hash.clone().finalize()) != mark.sha256 {
                return Err(Error::new(
                    ErrorKind::Integrity,
                    format!(
                        "{}: does not begin with the results that belong to the counts in --parts: name the file that \
                         does, or delete the part and this file to begin anew",
                        path.display()
                    ),
                ));
            }
            hash
        } else {
            let first = usize::try_from(counted.assigned.start).unwrap_or_default();
            let is_own = first < data.len() && {
                let front = front(&data.name(first), &of);
                begins_as(&mut file, front.as_bytes()).map_err(error)?
            };
            if there > 0 && !is_own {
                return Err(Error::new(
                    ErrorKind::Option,
                    format!(
                        "{}: is there already, and holds no results of this model, these data and options: name \
                         another file, or delete this one",
                        path.display()
                    ),
                ));
            }
            Sha256::new()
        };
        // What was written after the last counts is written again.
        file.set_len(mark.bytes).map_err(error)?;
        file.seek(SeekFrom::End(0)).map_err(error)?;
        Ok(Self {
            file: BufWriter::new(file),
            path,
            of,
            bytes: mark.bytes,
            hash,
            is_file: true,
        })
    }

    /// Writes the line of a picture: the likeliest classes, or why it can't be read.
    fn push(
        &mut self,
        data: &DataSet,
        picture: usize,
        outcome: Result<Vec<Prediction>, &str>,
    ) -> Result<()> {
        let (top_5, error) = match outcome {
            Ok(top) => (Some(top), None),
            Err(reason) => (None, Some(reason)),
        };
        let line = Line {
            path: &data.name(picture),
            of: &self.of,
            label: data.label(picture).unwrap_or_default(),
            top_5,
            error,
        };
        // Texts and finite numbers always have a JSON form.
        let line = serde_json::to_string(&line).unwrap_or_default() + "\n";
        self.file
            .write_all(line.as_bytes())
            .map_err(|error| unwritable(&self.path, &error))?;
        self.hash.update(line.as_bytes());
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// How far it is, for the counts.
    fn mark(&self) -> Option<Mark> {
        self.is_file.then(|| Mark {
            bytes: self.bytes,
            sha256: to_hex(&self.hash.clone().finalize()),
        })
    }

    fn flush(&mut self) -> Result<()> {
        self.file
            .flush()
            .map_err(|error| unwritable(&self.path, &error))
    }

    fn sync(&mut self) -> Result<()> {
        self.flush()?;
        if !self.is_file {
            return Ok(());
        }
        self.file
            .get_ref()
            .sync_data()
            .map_err(|error| unwritable(&self.path, &error))
    }
}

/// The hash over the first bytes of a file.
fn hash_of(file: &mut File, bytes: u64) -> std::io::Result<Sha256> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    file.rewind()?;
    let mut rest = file.take(bytes);
    loop {
        let count = rest.read(&mut buffer)?;
        if count == 0 {
            return Ok(hash);
        }
        hash.update(&buffer[..count]);
    }
}

/// Whether a file begins with this, or is the begin of it: whoever wrote it may have been stopped.
fn begins_as(file: &mut File, front: &[u8]) -> std::io::Result<bool> {
    let mut own = Vec::new();
    file.rewind()?;
    file.take(front.len() as u64).read_to_end(&mut own)?;
    Ok(front.starts_with(&own))
}

/// True for a device, a pipe or standard output.
fn is_special(path: &Path) -> bool {
    is_standard_output(path)
        || std::fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir())
}

/// What a process's own files are called.
fn part_name(world: &World) -> String {
    format!("part-{:05}-of-{:05}", world.rank, world.size)
}

/// Where a process writes its report: of several each has a folder of its own in the one that is named.
fn own_folder(folder: &Path, world: &World) -> PathBuf {
    if world.size == 1 {
        return folder.to_owned();
    }
    folder.join(part_name(world))
}

/// `results.jsonl`, or with several processes `results-00003-of-00008.jsonl`.
fn own_name(path: &Path, world: &World) -> PathBuf {
    if world.size == 1 || is_special(path) {
        return path.to_owned();
    }
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{:05}-of-{:05}", world.rank, world.size));
    if let Some(ending) = path.extension() {
        name.push(".");
        name.push(ending);
    }
    path.with_file_name(name)
}
