//! How good the heads of `aim_web::probe` are with few pictures of a class, as a table.
//!
//! `cargo run --release --example few_shot --features threads -- ROOT [MODEL]`: `ROOT/train/CLASS/*` and
//! `ROOT/test/CLASS/*`. Each entry is the mean over three seeds of the share of test pictures that got their class, from
//! heads that were trained on so many pictures of each class, or all where a class has fewer.

use std::error::Error;
use std::path::Path;

use aim_web::classifier::Classifier;
use aim_web::config::Config;
use aim_web::device::Device;
use aim_web::precision::Precision;
use aim_web::probe::examples::halves;
use aim_web::probe::training::HeldOut;
use aim_web::probe::{Examples, HeadKind, Options, Training};
use aim_web::weights::LocalModel;
use aim_web::{embedded, image};
use half::f16;
use pollster::block_on;

const SIZES: [usize; 8] = [2, 3, 5, 10, 20, 50, 100, 200];
const SEEDS: u64 = 3;

/// The features of each picture, and its class.
type Pictures = Vec<(usize, Vec<f16>)>;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().ok_or("usage: few_shot ROOT [MODEL]")?;
    let model = match arguments.next() {
        Some(dir) => LocalModel::from_dir(Path::new(&dir))?,
        None => embedded::open()?,
    };
    let labels = model.labels.clone();
    let engine = block_on(model.load(&Device::Cpu, Precision::Auto))?;
    let classifier = Classifier::new(engine, labels)?;
    let (classes, train) = read(&classifier, &Path::new(&root).join("train"))?;
    let (_, test) = read(&classifier, &Path::new(&root).join("test"))?;
    let config = classifier.engine().config();

    let heads = [HeadKind::Mean, HeadKind::Linear, HeadKind::Attention];
    println!("| pictures a class | mean | linear | attention |\n|---|---|---|---|");
    for size in SIZES {
        let mut row = format!("| {size} |");
        for head in heads {
            let mut sum = 0.0;
            for seed in 0..SEEDS {
                let few = few(&train, classes.len(), size, seed);
                sum += accuracy(config, &classes, &few, &test, head, seed)?;
            }
            row += &format!(" {:.1}% |", 100.0 * sum / SEEDS as f64);
        }
        println!("{row}");
    }
    Ok(())
}

/// The folders of `root`, each a class, and the features of their pictures.
fn read(classifier: &Classifier, root: &Path) -> Result<(Vec<String>, Pictures), Box<dyn Error>> {
    let entries = |path: &Path| -> Result<Vec<_>, Box<dyn Error>> {
        let mut entries = std::fs::read_dir(path)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>, std::io::Error>>()?;
        entries.sort();
        Ok(entries)
    };
    let (mut classes, mut pictures) = (Vec::new(), Vec::new());
    for folder in entries(root)?.into_iter().filter(|path| path.is_dir()) {
        for file in entries(&folder)? {
            let picture = image::decode(&std::fs::read(file)?)?;
            let images = classifier.images(&picture);
            let features = block_on(classifier.engine().probed(images))?;
            pictures.push((classes.len(), halves(&features.values)?));
        }
        let name = folder.file_name().unwrap_or_default();
        classes.push(name.to_string_lossy().into_owned());
    }
    Ok((classes, pictures))
}

/// So many pictures of each class: others for another seed.
fn few(pictures: &Pictures, classes: usize, size: usize, seed: u64) -> Pictures {
    let mut few = Vec::new();
    for class in 0..classes {
        let of_class: Vec<_> = pictures.iter().filter(|(own, _)| *own == class).collect();
        let start = of_class.len() * seed as usize / SEEDS as usize;
        let from_there = of_class.iter().cycle().skip(start);
        few.extend(
            from_there
                .take(size.min(of_class.len()))
                .map(|one| (*one).clone()),
        );
    }
    few
}

fn accuracy(
    config: &Config,
    classes: &[String],
    few: &Pictures,
    test: &Pictures,
    head: HeadKind,
    seed: u64,
) -> Result<f64, Box<dyn Error>> {
    let mut examples = Examples::new(config, classes)?;
    for (class, features) in few.iter().chain(test) {
        examples.push_halves(*class, features.clone())?;
    }
    let options = Options {
        head,
        seed,
        held_out: HeldOut::From(few.len()),
        ..Options::default()
    };
    let (_, report) = Training::new(&examples, options)?.finish()?;
    Ok(report.accuracy.unwrap_or_default())
}
