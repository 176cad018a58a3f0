//! `aim-bench eval`: accuracy and loss on a folder of labelled pictures.

use std::collections::BTreeMap;

use aim_web::Result;
use aim_web::classifier::Classifier;
use serde::Serialize;

use super::Outcome;
use crate::args::{Eval, Show};
use crate::data::{DataSet, Seen, classes};
use crate::output::{self, say};
use crate::progress::Progress;
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
    data: Data,
}

/// What was read.
#[derive(Serialize)]
struct Data {
    path: String,
    sha256: String,
    #[serde(flatten)]
    seen: Seen,
}

/// A picture that can't be read.
#[derive(Serialize)]
struct Broken {
    image: String,
    error: String,
}

/// Counts over all pictures. One that can't be read is told and left out, and the next ones follow.
pub fn run(args: &Eval) -> Result<Outcome> {
    let model = model::open(&args.model)?;
    let data = DataSet::open(&args.data_path, "val")?;
    let mapping = classes::map(data.classes(), &model.labels)
        .map_err(|error| error.at(args.data_path.display()))?;
    let blocks = model.config.blocks_to_run();
    let labels = model.labels.clone();
    let (engine, device) = engine::load(model, blocks, &args.model)?;
    let classifier = Classifier::new(engine, labels)?;

    let mut total = Counts::default();
    let mut by_class: BTreeMap<String, Counts> = BTreeMap::new();
    let mut errors = Vec::new();
    let mut not_turned = 0_u64;
    for class in data.classes() {
        by_class.insert(class.name.clone(), Counts::default());
    }
    let progress = Progress::new(Show::Auto, "pictures", data.len() as u64, 0);
    for number in 0..data.len() {
        let class = data.class(number);
        match data.read(number, args.exif) {
            Ok(picture) => {
                not_turned += u64::from(picture.ignored.is_some());
                let images = classifier.images(&picture.pixels);
                let logits = engine::wait(&device, classifier.logits(images))?;
                let index = mapping.indices[class];
                let name = &data.classes()[class].name;
                by_class
                    .entry(name.clone())
                    .or_default()
                    .add(&logits, index);
                total.add(&logits, index);
            }
            Err(error) => {
                progress.aside(|| output::error(&error));
                errors.push(Broken {
                    image: data.name(number).into_owned(),
                    error: output::one_line(&error),
                });
            }
        }
        progress.advance(1, &format!("top-1 {:.1}%", total.percent(total.top_1)));
    }
    progress.end();
    let report = Report {
        top_1_percent: total.percent(total.top_1),
        top_5_percent: total.percent(total.top_5),
        mean_loss: total.loss / total.pictures.max(1) as f64,
        counts: total,
        broken: errors.len(),
        errors,
        classes: by_class,
        data: Data {
            path: data.path().to_owned(),
            sha256: data.sha256(),
            seen: data.seen().clone(),
        },
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
