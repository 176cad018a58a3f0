//! `aim-bench eval`: accuracy and loss on a folder of labelled pictures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aim_web::classifier::Classifier;
use aim_web::labels::Labels;
use aim_web::{Error, ErrorKind, Result};
use serde::Serialize;

use super::Outcome;
use crate::args::Eval;
use crate::output::{self, say};
use crate::pictures::{self, IMAGE_FOLDER, Visited};
use crate::{engine, model};

/// Counts over some pictures.
#[derive(Clone, Default, Serialize)]
struct Counts {
    pictures: u64,
    top_1: u64,
    top_5: u64,
    /// The sum of the pictures' cross-entropies.
    loss: f64,
}

impl Counts {
    fn add(&mut self, logits: &[f32], class: usize) {
        let own = logits[class];
        let above = logits.iter().filter(|&&logit| logit > own).count();
        let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = logits
            .iter()
            .map(|&logit| (f64::from(logit) - largest).exp())
            .sum();
        self.pictures += 1;
        self.top_1 += u64::from(above < 1);
        self.top_5 += u64::from(above < 5);
        self.loss += sum.ln() + largest - f64::from(own);
    }

    fn percent(&self, count: u64) -> f64 {
        100.0 * count as f64 / self.pictures.max(1) as f64
    }
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    counts: Counts,
    top_1_percent: f64,
    top_5_percent: f64,
    mean_loss: f64,
    /// How many pictures can't be read: they are in no other count.
    broken: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Broken>,
    classes: BTreeMap<String, Counts>,
}

/// A picture that can't be read.
#[derive(Serialize)]
struct Broken {
    image: String,
    error: String,
}

/// The pictures of one class.
struct Class {
    name: String,
    index: usize,
    pictures: Vec<PathBuf>,
}

/// Counts over all pictures. One that can't be read is told and left out, and the next ones follow.
pub fn run(args: &Eval) -> Result<Outcome> {
    let model = model::open(&args.model)?;
    let classes = classes(&args.data_path, &model.labels)?;
    let blocks = model.config.blocks_to_run();
    let labels = model.labels.clone();
    let (engine, device) = engine::load(model, blocks, &args.model)?;
    let classifier = Classifier::new(engine, labels)?;

    let mut total = Counts::default();
    let mut by_class = BTreeMap::new();
    let mut errors = Vec::new();
    let mut not_turned = 0_u64;
    for class in classes {
        let counts: &mut Counts = by_class.entry(class.name).or_default();
        for path in class.pictures {
            let picture = match pictures::read(&path, args.exif) {
                Ok(picture) => picture,
                Err(error) => {
                    output::error(&error);
                    errors.push(Broken {
                        image: path.to_string_lossy().into_owned(),
                        error: output::one_line(&error),
                    });
                    continue;
                }
            };
            not_turned += u64::from(picture.ignored.is_some());
            let images = classifier.images(&picture.pixels);
            let logits = engine::wait(&device, classifier.logits(images))?;
            counts.add(&logits, class.index);
            total.add(&logits, class.index);
        }
    }
    let report = Report {
        top_1_percent: total.percent(total.top_1),
        top_5_percent: total.percent(total.top_5),
        mean_loss: total.loss / total.pictures.max(1) as f64,
        counts: total,
        broken: errors.len(),
        errors,
        classes: by_class,
    };
    if not_turned > 0 {
        output::note(&format!(
            "the EXIF orientation of {not_turned} pictures is ignored, as the reference does; --exif respect turns them"
        ));
    }
    let outcome = if report.broken > 0 {
        Outcome::Incomplete
    } else {
        Outcome::Complete
    };
    if args.json {
        output::print_json(&report)?;
        return Ok(outcome);
    }
    for (name, counts) in &report.classes {
        let (right, all) = (counts.top_1, counts.pictures);
        say!(
            "{name:<24} {right:>5} of {all:>5}  {:5.1}%",
            counts.percent(right)
        )?;
    }
    if report.broken > 0 {
        say!("{} broken pictures are not counted", report.broken)?;
    }
    say!(
        "top-1 {:.2}%  top-5 {:.2}%  loss {:.4}  ({} pictures, {})",
        report.top_1_percent,
        report.top_5_percent,
        report.mean_loss,
        report.counts.pictures,
        device.name()
    )?;
    Ok(outcome)
}

/// The folders of `root/val` or of `root`, each a class: by name if all names are labels of the
/// model, else by their order if there are as many as classes.
fn classes(root: &Path, labels: &Labels) -> Result<Vec<Class>> {
    let val = root.join("val");
    let root = if val.is_dir() { val } else { root.to_owned() };
    let folders: Vec<PathBuf> = pictures::entries(&root)?
        .into_iter()
        .filter(|path| path.is_dir())
        .collect();
    let names: Vec<String> = folders
        .iter()
        .map(|folder| {
            folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let by_name: Option<Vec<usize>> = names
        .iter()
        .map(|name| labels.names().iter().position(|label| label == name))
        .collect();
    let indices = match by_name {
        Some(indices) if !indices.is_empty() => indices,
        _ if folders.len() == labels.names().len() => (0..folders.len()).collect(),
        _ => {
            return Err(Error::new(
                ErrorKind::Option,
                format!(
                    "{}: its {} folders are neither named like the model's {} classes nor as many",
                    root.display(),
                    folders.len(),
                    labels.names().len()
                ),
            ));
        }
    };
    let mut visited = Visited::default();
    visited.enter_above(&root)?;
    visited.enter(&root)?;
    let classes: Vec<_> = names.into_iter().zip(indices).zip(folders).collect();
    // A folder before the links to it, so that its pictures are its own class's.
    let (links, folders): (Vec<_>, Vec<_>) = classes
        .into_iter()
        .partition(|(_, folder)| folder.is_symlink());
    let mut kept = Vec::new();
    for (class, folder) in folders.into_iter().chain(links) {
        if visited.enter(&folder)? {
            kept.push((class, folder));
        }
    }
    let (classes, folders): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
    let pictures = pictures::in_folders(&folders, &mut visited, IMAGE_FOLDER)?;
    Ok(classes
        .into_iter()
        .zip(pictures)
        .map(|((name, index), pictures)| Class {
            name,
            index,
            pictures,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_follow_the_rank_of_the_class() {
        let mut counts = Counts::default();
        let logits = [0.0, 3.0, 2.0, 1.0, 4.0, 5.0];
        counts.add(&logits, 5);
        counts.add(&logits, 1);
        counts.add(&logits, 0);
        assert_eq!((counts.pictures, counts.top_1, counts.top_5), (3, 1, 2));
        let mut even = Counts::default();
        even.add(&[1.0, 1.0], 0);
        assert!((even.loss - 2.0_f64.ln()).abs() < 1e-12);
    }
}
