//! `aim-bench eval`: accuracy and loss on labelled pictures.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aim_web::classifier::{Classifier, Prediction, predictions};
use aim_web::engine::HostTensor;
use aim_web::{Error, ErrorKind, Result};
use serde::Serialize;

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
use crate::report::{self, DataId, ModelId, Report};
use crate::world::World;
use crate::{engine, model};

/// Counts over all pictures, or over this process's part of them. One that can't be read is reported and left out, and the
/// next ones follow.
pub fn run(args: &Eval) -> Result<Outcome> {
    let world = World::find(&args.world)?;
    let results = [("--results-file", args.results_file.as_deref())];
    output::reserve(&results, args.json)?;
    let model = model::open(&args.model)?;
    let data = DataSet::open(&args.data.data_path, &args.data.split)?;
    let mapping = data.classes_in(&model.labels)?;
    tell_of(&world, &data, mapping.by);
    let part = args
        .parts
        .as_deref()
        .map(|folder| PartFile::open(folder, &world))
        .transpose()?;
    // Before the first picture: many take long.
    if let Some(folder) = &args.report {
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
        .map(|path| Results::open(path, &world, &counted))
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
                    results.push(&Line::read(&data, picture, top))?;
                }
                counted.add(class, &score, output.not_turned)?;
            }
            Err(error) if args.data.strict => return Err(error),
            Err(error) => {
                progress.aside(|| output::error(&error));
                let reason = output::one_line(&error);
                if let Some(results) = &mut results {
                    results.push(&Line::broken(&data, picture, &reason))?;
                }
                counted.add_broken(data.name(picture).into_owned(), reason);
            }
        }
        progress.advance(
            1,
            &format!("top-1 {:.1}%", 100.0 * right as f64 / seen.max(1) as f64),
        );
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
    show(&counted.report()?, args.report.as_deref(), args.json)
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
        let name = format!("part-{:05}-of-{:05}", world.rank, world.size);
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
            counted.results_bytes = results.is_file.then_some(results.bytes);
        } else if counted.next > self.begun {
            // The file of an earlier process lacks what was counted since: none can be gone on with.
            counted.results_bytes = None;
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
    /// The class that it is filed under.
    label: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_5: Option<Vec<Prediction>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl Line<'_> {
    fn read(data: &DataSet, picture: usize, top: Vec<Prediction>) -> String {
        Self::text(data, picture, Some(top), None)
    }

    fn broken(data: &DataSet, picture: usize, reason: &str) -> String {
        Self::text(data, picture, None, Some(reason))
    }

    fn text(
        data: &DataSet,
        picture: usize,
        top_5: Option<Vec<Prediction>>,
        error: Option<&str>,
    ) -> String {
        let line = Line {
            path: &data.name(picture),
            label: data.label(picture).unwrap_or_default(),
            top_5,
            error,
        };
        // Texts and finite numbers always have a JSON form.
        serde_json::to_string(&line).unwrap_or_default()
    }
}

/// The file of results: a line for each picture.
struct Results {
    file: BufWriter<File>,
    path: PathBuf,
    bytes: u64,
    /// False for a device or a pipe, which has no length.
    is_file: bool,
}

impl Results {
    /// Begins the file, or goes on with what belongs to the counts.
    fn open(path: &Path, world: &World, counted: &Counted) -> Result<Self> {
        let path = own_name(path, world);
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
                bytes: 0,
                is_file: false,
            });
        }
        let bytes = match counted.results_bytes {
            Some(bytes) if is_begun => bytes,
            None if is_begun => {
                return Err(Error::new(
                    ErrorKind::Option,
                    format!(
                        "{}: some of the counts in --parts were made without results: delete their part to begin anew",
                        path.display()
                    ),
                ));
            }
            _ => 0,
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(error)?;
        let there = file.metadata().map_err(error)?.len();
        if there < bytes {
            return Err(Error::new(
                ErrorKind::Integrity,
                format!(
                    "{}: has {there} bytes, but {bytes} belong to the counts in --parts: delete their part to begin anew",
                    path.display()
                ),
            ));
        }
        // What was written after the last counts is written again.
        file.set_len(bytes).map_err(error)?;
        file.seek(SeekFrom::End(0)).map_err(error)?;
        Ok(Self {
            file: BufWriter::new(file),
            path,
            bytes,
            is_file: true,
        })
    }

    fn push(&mut self, line: &str) -> Result<()> {
        writeln!(self.file, "{line}").map_err(|error| unwritable(&self.path, &error))?;
        self.bytes += line.len() as u64 + 1;
        Ok(())
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

/// True for a device, a pipe or standard output.
fn is_special(path: &Path) -> bool {
    is_standard_output(path)
        || std::fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir())
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
