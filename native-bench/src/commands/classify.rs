//! `aim-bench classify`: labels and scores of pictures.

use std::path::Path;

use aim_web::Result;
use aim_web::classifier::{Classifier, Prediction};
use serde::Serialize;

use super::read_picture;
use crate::args::Classify;
use crate::{engine, model, output};

#[derive(Serialize)]
struct Entry<'a> {
    image: &'a Path,
    predictions: Vec<Named>,
}

#[derive(Serialize)]
struct Named {
    label: String,
    score: f32,
    index: usize,
}

impl From<Prediction> for Named {
    fn from(prediction: Prediction) -> Self {
        Self {
            label: prediction.label,
            score: prediction.score,
            index: prediction.index,
        }
    }
}

pub fn run(args: &Classify) -> Result<()> {
    let model = model::open(&args.model)?;
    let blocks = model.config.blocks_to_run();
    let labels = model.labels.clone();
    let (engine, device) = engine::load(model, blocks, &args.model)?;
    let classifier = Classifier::new(engine, labels)?;

    let mut entries = Vec::new();
    for image in &args.images {
        let picture = read_picture(image)?;
        let predictions =
            engine::wait(&device, classifier.classify(&picture, args.top_k as usize))?;
        if args.json {
            entries.push(Entry {
                image,
                predictions: predictions.into_iter().map(Named::from).collect(),
            });
        } else {
            print(image, &predictions);
        }
    }
    if args.json {
        output::print_json(&entries)?;
    }
    Ok(())
}

fn print(image: &Path, predictions: &[Prediction]) {
    println!("{}", image.display());
    for prediction in predictions {
        let percent = 100.0 * prediction.score;
        println!("  {percent:5.1}%  {}", prediction.label);
    }
}
