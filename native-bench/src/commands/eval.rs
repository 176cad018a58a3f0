//! `aim-bench eval`: accuracy and loss on a folder of labelled pictures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aim_web::classifier::Classifier;
use aim_web::labels::Labels;
use aim_web::{Error, ErrorKind, Result};
use serde::Serialize;

use super::read_picture;
use crate::args::Eval;
use crate::{engine, model, output};

/// The endings that torchvision's `ImageFolder` takes for pictures.
const ENDINGS: [&str; 9] = [
    "jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp",
];

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
    classes: BTreeMap<String, Counts>,
}

/// The pictures of one class.
struct Class {
    name: String,
    index: usize,
    pictures: Vec<PathBuf>,
}

pub fn run(args: &Eval) -> Result<()> {
    let model = model::open(&args.model)?;
    let classes = classes(&args.data_path, &model.labels)?;
    let blocks = model.config.blocks_to_run();
    let labels = model.labels.clone();
    let (engine, device) = engine::load(model, blocks, &args.model)?;
    let classifier = Classifier::new(engine, labels)?;

    let mut total = Counts::default();
    let mut by_class = BTreeMap::new();
    for class in classes {
        let counts: &mut Counts = by_class.entry(class.name).or_default();
        for path in class.pictures {
            let images = classifier.images(&read_picture(&path)?);
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
        classes: by_class,
    };
    if args.json {
        return output::print_json(&report);
    }
    for (name, counts) in &report.classes {
        let (right, all) = (counts.top_1, counts.pictures);
        println!(
            "{name:<24} {right:>5} of {all:>5}  {:5.1}%",
            counts.percent(right)
        );
    }
    println!(
        "top-1 {:.2}%  top-5 {:.2}%  loss {:.4}  ({} pictures, {})",
        report.top_1_percent,
        report.top_5_percent,
        report.mean_loss,
        report.counts.pictures,
        device.name()
    );
    Ok(())
}

/// The folders of `root/val` or of `root`, each a class: by name if all names are labels of the
/// model, else by their order if there are as many as classes.
fn classes(root: &Path, labels: &Labels) -> Result<Vec<Class>> {
    let val = root.join("val");
    let root = if val.is_dir() { val } else { root.to_owned() };
    let mut folders: Vec<PathBuf> = entries(&root)?
        .into_iter()
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
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
    folders
        .iter()
        .zip(names)
        .zip(indices)
        .map(|((folder, name), index)| {
            let mut pictures = Vec::new();
            collect(folder, &mut pictures)?;
            pictures.sort();
            Ok(Class {
                name,
                index,
                pictures,
            })
        })
        .collect()
}

/// The pictures in a folder and the folders in it.
fn collect(folder: &Path, pictures: &mut Vec<PathBuf>) -> Result<()> {
    for path in entries(folder)? {
        if path.is_dir() {
            collect(&path, pictures)?;
        } else if path
            .extension()
            .and_then(|ending| ending.to_str())
            .is_some_and(|ending| ENDINGS.contains(&ending.to_ascii_lowercase().as_str()))
        {
            pictures.push(path);
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let error = |error: std::io::Error| {
        Error::new(
            ErrorKind::NotFound,
            format!("{}: {error}", folder.display()),
        )
    };
    std::fs::read_dir(folder)
        .map_err(error)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(error))
        .collect()
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
