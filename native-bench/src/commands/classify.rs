//! `aim-bench classify`: labels and scores of pictures.

use std::path::Path;

use aim_web::Result;
use aim_web::classifier::{Classifier, Prediction};
use serde::Serialize;

use super::Outcome;
use crate::args::Classify;
use crate::data::path_text;
use crate::output::{self, JsonList, say, without_controls};
use crate::{engine, model, pictures};

/// What becomes of one picture.
#[derive(Serialize)]
struct Entry<'a> {
    image: &'a str,
    #[serde(flatten)]
    outcome: Labels,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Labels {
    Predictions(Vec<Prediction>),
    /// Why it can't be read.
    Error(String),
}

/// Names what is on each picture as it comes. One that can't be read is reported, and the next ones follow.
pub fn run(args: &Classify) -> Result<Outcome> {
    let model = model::open(&args.model)?;
    let blocks = model.config.blocks_to_run();
    let labels = model.labels.clone();
    let (engine, device) = engine::load(model, blocks, &args.model)?;
    let classifier = Classifier::new(engine, labels)?;

    let mut outcome = Outcome::Complete;
    let mut list = args.json.then(JsonList::new);
    let mut all = || -> Result<()> {
        for (path, is_there) in pictures::named(&args.images) {
            let picture = is_there.and_then(|()| pictures::read(&path, args.exif));
            let labels = match picture {
                Ok(picture) => {
                    let top_k = args.top_k as usize;
                    let predictions = classifier.classify(&picture.pixels, top_k);
                    Ok(engine::wait(&device, predictions)?)
                }
                Err(error) => {
                    output::error(&error);
                    outcome = Outcome::Incomplete;
                    Err(error)
                }
            };
            match (&mut list, labels) {
                (Some(list), labels) => list.push(&Entry {
                    image: &path_text(&path),
                    outcome: match labels {
                        Ok(labels) => Labels::Predictions(labels),
                        Err(error) => Labels::Error(output::one_line(&error)),
                    },
                })?,
                (None, Ok(labels)) => print(&path, &labels)?,
                (None, Err(_)) => {}
            }
        }
        Ok(())
    };
    let done = all();
    // A list that was begun is one, whatever happened.
    let ended = match list {
        Some(list) if done.is_ok() || list.is_begun() => list.end(),
        _ => Ok(()),
    };
    done.and(ended)?;
    Ok(outcome)
}

fn print(image: &Path, predictions: &[Prediction]) -> Result<()> {
    say!("{}", without_controls(&path_text(image)))?;
    for prediction in predictions {
        let percent = 100.0 * prediction.score;
        say!("  {percent:5.1}%  {}", without_controls(&prediction.label))?;
    }
    Ok(())
}
