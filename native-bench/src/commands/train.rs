//! `aim-bench train`: a head for classes of one's own, on the frozen trunk.

use std::collections::BTreeMap;
use std::path::Path;

use aim_web::classifier::Classifier;
use aim_web::device::Device;
use aim_web::image::RgbImage;
use aim_web::probe::file::EMBEDDED;
use aim_web::probe::report::Point;
use aim_web::probe::training::HeldOut;
use aim_web::probe::{Examples, HeadFile, HeadFolder, HeadKind, Options, Report, Training, Trunk};
use aim_web::random::SplitMix64;
use aim_web::{Error, ErrorKind, Result, printable};
use image::imageops;
use serde_json::json;

use super::Outcome;
use crate::args::{Model, Train};
use crate::curve;
use crate::data::{DataSet, Split, path_text};
use crate::engine;
use crate::model::{self, Source};
use crate::output::{self, say};
use crate::progress::Progress;

/// The most lines that report the loss and the accuracy.
const LINES: usize = 20;

/// The share that is held out where nobody asks for another.
const VAL_SPLIT: f32 = 0.2;

/// Pictures whose features are computed together.
const BATCH: usize = 8;

/// What became of the pictures.
struct Read {
    examples: Examples,
    held_out: HeldOut,
    broken: Vec<String>,
}

/// Computes each picture's features once, trains on them, and writes a folder.
pub fn run(args: &Train) -> Result<Outcome> {
    let data = Data::open(args)?;
    let frozen = Model::from(&args.frozen);
    let model = model::open(&frozen)?;
    if args.full && matches!(model.source, Source::Remote(_)) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "--full copies the trunk, and of one on a server only what runs is fetched: take one in files of this \
             machine, or leave it out, and the head names its trunk",
        ));
    }
    let name = model::trunk_name(&model, &frozen)?;
    let arch = frozen.source.arch.map(|family| family.name().to_owned());
    let arch = arch.or_else(|| model.head.as_ref()?.trunk.arch.clone());
    if !args.full && name != EMBEDDED {
        check_trunk_stays(&args.output, Path::new(&name))?;
    }
    let folder = HeadFolder::new(&args.output, args.overwrite)?;

    let blocks = model.config.blocks_to_run();
    let labels = model.labels.clone();
    let (engine, device) = engine::load(model, blocks, &frozen)?;
    let classifier = Classifier::new(engine, labels)?;
    let Read {
        examples,
        held_out,
        broken,
    } = data.features(args, &classifier, &device)?;
    let options = Options {
        head: args.head,
        epochs: args.epochs.map(|epochs| epochs as usize),
        rate: args.lr,
        seed: args.seed,
        held_out,
        ..Options::default()
    };

    let (head, report) = train(args, &examples, options)?;
    let trunk = Trunk {
        name,
        arch,
        sha256: classifier.engine().trunk_sha256().to_owned(),
    };
    let config = classifier.engine().config();
    let file = HeadFile::new(head, config, examples.classes(), trunk);
    folder.write("curve.svg", &curve::svg(&report.curve))?;
    let bytes = if args.full {
        // The weights that were loaded are on their device: they are read once more.
        let model = model::open(&frozen)?;
        let Source::Local(local) = model.source else {
            return Err(Error::new(
                ErrorKind::NotFound,
                "the trunk is not there any more",
            ));
        };
        let trunk = local.config.clone();
        folder.finish_whole(&file, &trunk, local.into_files())?
    } else {
        folder.finish(&file)?
    };
    show(args, &report, &broken, bytes)?;
    Ok(if broken.is_empty() {
        Outcome::Complete
    } else {
        Outcome::Incomplete
    })
}

/// The options that are given and mean nothing to a head that is not trained in epochs.
fn epoch_options(args: &Train) -> Vec<&'static str> {
    let options = [
        ("--epochs", args.epochs.is_some()),
        ("--lr", args.lr.is_some()),
    ];
    let given = options.into_iter().filter(|(_, is_given)| *is_given);
    given.map(|(name, _)| name).collect()
}

/// Refuses a folder that holds the trunk: a head alone in its place would have none.
fn check_trunk_stays(output: &Path, trunk: &Path) -> Result<()> {
    let (Ok(output), Ok(trunk)) = (output.canonicalize(), trunk.canonicalize()) else {
        return Ok(());
    };
    if trunk.starts_with(&output) {
        return Err(Error::new(
            ErrorKind::Option,
            format!(
                "{}: holds the trunk, which the head needs: take another folder, or --full for the whole model",
                output.display()
            ),
        ));
    }
    Ok(())
}

/// The pictures of a lesson, of which none was read yet.
struct Data {
    training: DataSet,
    /// A part that was held out by whoever made the data set.
    held_out: Option<DataSet>,
    classes: Vec<String>,
}

impl Data {
    fn open(args: &Train) -> Result<Self> {
        let training = DataSet::open(&args.data_path, Split::IfThere("train"))?;
        let classes: Vec<String> = training
            .classes()
            .iter()
            .map(|class| class.name.clone())
            .collect();
        if let [empty, ..] = training.seen().empty_classes.as_slice() {
            return Err(Error::new(
                ErrorKind::Option,
                format!("the class {empty:?} has no picture: add some, or remove its folder"),
            ));
        }
        let is_split = ["train", "val"].map(|part| args.data_path.join(part).is_dir());
        if is_split == [true, true] && args.val_split.is_some() {
            output::note(&format!(
                "{}: its val is what is held out, --val-split changes nothing",
                args.data_path.display()
            ));
        }
        let held_out = if is_split == [true, true] {
            Some(DataSet::open(&args.data_path, Split::Named("val"))?)
        } else {
            None
        };
        let unknown = held_out
            .iter()
            .flat_map(|set| set.classes())
            .find(|class| !classes.contains(&class.name));
        if let Some(class) = unknown {
            return Err(Error::new(
                ErrorKind::Option,
                format!(
                    "{}: the class {:?} of its val is not in its train",
                    args.data_path.display(),
                    class.name
                ),
            ));
        }
        Ok(Self {
            training,
            held_out,
            classes,
        })
    }

    /// Computes the features of all pictures. One that can't be read is reported and left out.
    fn features(&self, args: &Train, classifier: &Classifier, device: &Device) -> Result<Read> {
        // What is wrong with the classes is an error before the first picture is read.
        let mut examples = Examples::new(classifier.engine().config(), &self.classes)?;
        let mut broken = Vec::new();
        let sets = [Some(&self.training), self.held_out.as_ref()];
        let total: usize = sets.iter().flatten().map(|set| set.len()).sum();
        let progress = Progress::new(args.progress, "pictures", total as u64, 0);
        let mut first_held_out = None;
        for (part, set) in sets.into_iter().enumerate() {
            let Some(set) = set else { continue };
            if part == 1 {
                first_held_out = Some(examples.labels().len());
            }
            let by_name: BTreeMap<&str, usize> = self
                .classes
                .iter()
                .enumerate()
                .map(|(at, name)| (name.as_str(), at))
                .collect();
            let numbers: Vec<usize> = (0..set.len()).collect();
            for numbers in numbers.chunks(BATCH) {
                let mut classes = Vec::new();
                let mut views = Vec::new();
                for &number in numbers {
                    match set.read(number, args.exif) {
                        Ok(picture) => {
                            let name = &set.classes()[set.class(number)].name;
                            let more = if args.augment && part == 0 {
                                self::views(&picture.pixels, args.seed ^ number as u64)
                            } else {
                                Vec::new()
                            };
                            classes.push((by_name[name.as_str()], more.len()));
                            views.push(picture.pixels);
                            views.extend(more);
                        }
                        Err(error) => {
                            progress.aside(|| output::error(&error));
                            broken.push(output::one_line(&error));
                        }
                    }
                }
                let mut features = Vec::new();
                for views in views.chunks(BATCH) {
                    features.extend(compute(views, classifier, device)?);
                }
                let mut features = features.into_iter();
                for (class, more) in classes {
                    examples.push(class, &features.next().unwrap_or_default())?;
                    for view in features.by_ref().take(more) {
                        examples.push_view(&view)?;
                    }
                }
                progress.advance(numbers.len() as u64, "");
            }
        }
        progress.end();
        let held_out = match (first_held_out, args.val_split.unwrap_or(VAL_SPLIT)) {
            (Some(first), _) => HeldOut::From(first),
            // Where nothing is held out one picture of a class is enough.
            (None, 0.0) => HeldOut::From(examples.labels().len()),
            (None, share) => {
                check_second(&examples)?;
                HeldOut::Share(share)
            }
        };
        Ok(Read {
            examples,
            held_out,
            broken,
        })
    }
}

/// Refuses a class of one picture, of which none can be held out.
fn check_second(examples: &Examples) -> Result<()> {
    let counts = examples.counts();
    let mut alone = examples
        .classes()
        .iter()
        .zip(counts)
        .filter(|(_, count)| *count == 1);
    match alone.next() {
        None => Ok(()),
        Some((class, _)) => Err(Error::new(
            ErrorKind::Option,
            format!(
                "the class {:?} has one picture, and one more would have to be held out: add some, or take --val-split 0",
                printable(class)
            ),
        )),
    }
}

/// What the head reads of each picture.
fn compute(
    pictures: &[RgbImage],
    classifier: &Classifier,
    device: &Device,
) -> Result<Vec<Vec<f32>>> {
    let mut images = classifier.images(match pictures.first() {
        Some(first) => first,
        None => return Ok(Vec::new()),
    });
    for picture in &pictures[1..] {
        images.values.extend(classifier.images(picture).values);
    }
    images.shape[0] = pictures.len();
    let probed = engine::wait(device, classifier.engine().probed(images))?;
    let size = probed.values.len() / pictures.len();
    Ok(probed.values.chunks(size).map(<[f32]>::to_vec).collect())
}

/// A picture's mirror image, and two parts of it, one mirrored.
fn views(picture: &RgbImage, seed: u64) -> Vec<RgbImage> {
    // Three numbers from 0 to 1 for each part.
    let mut bits = SplitMix64::new(seed);
    let mut random = || (bits.next() >> 11) as f64 / (1_u64 << 53) as f64;
    let (width, height) = picture.dimensions();
    let mut part = || {
        let scale = 0.7 + 0.25 * random();
        let side = |of: u32, scale: f64| ((f64::from(of) * scale).round() as u32).clamp(1, of);
        let (w, h) = (side(width, scale), side(height, scale));
        let place = |free: u32, share: f64| (f64::from(free) * share).round() as u32;
        let (x, y) = (place(width - w, random()), place(height - h, random()));
        imageops::crop_imm(picture, x, y, w, h).to_image()
    };
    let first = part();
    let second = imageops::flip_horizontal(&part());
    vec![imageops::flip_horizontal(picture), first, second]
}

/// Trains, and shows the loss and the accuracy as they come.
fn train(
    args: &Train,
    examples: &Examples,
    options: Options,
) -> Result<(aim_web::probe::Head, Report)> {
    let mut training = Training::new(examples, options)?;
    if training.kind() == HeadKind::Mean && !epoch_options(args).is_empty() {
        output::note(&format!(
            "the head is the mean of each class, which is not trained in epochs: {} changes nothing",
            epoch_options(args).join(" and ")
        ));
    }
    let progress = Progress::new(args.progress, "percent of the training", 100, 0);
    let mut shown = 0;
    let mut points: Vec<Point> = Vec::new();
    while let Some(step) = training.step()? {
        let percent = (100.0 * step.done) as u64;
        let note = points.last().map(line).unwrap_or_default();
        progress.advance(percent.saturating_sub(shown), &note);
        shown = percent.max(shown);
        points.extend(step.epoch);
    }
    progress.end();
    training.finish()
}

fn line(point: &Point) -> String {
    let mut line = format!("loss {:.4}", point.loss);
    if let (Some(loss), Some(accuracy)) = (point.held_out_loss, point.accuracy) {
        line += &format!(
            ", held out: loss {loss:.4}, accuracy {:.1}%",
            100.0 * accuracy
        );
    }
    line
}

/// What was learnt, once it is written.
fn show(args: &Train, report: &Report, broken: &[String], bytes: u64) -> Result<()> {
    let percent = |share: Option<f64>| share.map(|share| 100.0 * share);
    if args.json {
        let classes: BTreeMap<&str, _> = report
            .per_class
            .iter()
            .map(|class| {
                let entry = json!({
                    "pictures": class.examples,
                    "held_out": class.held_out,
                    "right": class.right,
                });
                (class.label.as_str(), entry)
            })
            .collect();
        return output::print_json(&json!({
            "output": path_text(&args.output),
            "bytes": bytes,
            "head": report.head.name(),
            "pictures": report.examples,
            "held_out": report.held_out,
            "accuracy": report.accuracy,
            "loss": report.loss,
            "classes": classes,
            "confusion": report.confusion,
            "epochs": report.curve.iter().map(|point| json!({
                "epoch": point.epoch,
                "loss": point.loss,
                "held_out_loss": point.held_out_loss,
                "accuracy": point.accuracy,
            })).collect::<Vec<_>>(),
            "broken": broken.len(),
            "errors": broken,
        }));
    }
    let last = report.curve.len();
    let every = last.div_ceil(LINES).max(1);
    for point in &report.curve {
        if point.epoch % every == 0 || point.epoch == last {
            say!("epoch {:>4} of {last}  {}", point.epoch, line(point))?;
        }
    }
    for class in &report.per_class {
        let (right, all) = (class.right, class.held_out);
        let label = printable(&class.label);
        match percent(class.accuracy) {
            Some(share) => say!("{label:<24} {right:>5} of {all:>5}  {share:5.1}%")?,
            None => say!("{label:<24} {:>5} pictures", class.examples)?,
        }
    }
    if !broken.is_empty() {
        say!("{} broken pictures are left out", broken.len())?;
    }
    let score = percent(report.accuracy).map_or_else(
        || "nothing was held out".to_owned(),
        |share| format!("{share:.1}% of {} held-out pictures", report.held_out),
    );
    say!(
        "{}: {score}; {} pictures, {} bytes in {}",
        report.head,
        report.examples,
        bytes,
        args.output.display()
    )
}
