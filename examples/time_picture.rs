//! Times a model on the CPU, picture by picture, when told to: the native part of `www/bench/peers`.
//!
//! `time_picture MODEL_DIR DTYPE PICTURES` reads pictures of f32 `[n, channels, height, width]`, normalised,
//! from a raw file, then takes commands from its input and answers each with one line of JSON:
//! `picture I` runs that picture and gives its logits, `time I` gives its milliseconds alone.
//! `RAYON_NUM_THREADS` says how many threads may compute.
#![allow(missing_docs)]

use std::error::Error;
use std::io::BufRead as _;
use std::path::Path;
use std::time::Instant;

use aim_web::device::Device;
use aim_web::engine::{Engine, HostTensor};
use aim_web::weights::LocalModel;
use pollster::block_on;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, dtype, pictures] = args.as_slice() else {
        return Err("usage: time_picture MODEL_DIR DTYPE PICTURES".into());
    };
    let engine =
        block_on(LocalModel::from_dir(Path::new(model))?.load(&Device::Cpu, dtype.parse()?))?;
    let pictures = read(Path::new(pictures), &*engine)?;
    println!(
        "{}",
        serde_json::json!({ "dtype": engine.precision().name(), "blocks": engine.blocks() })
    );
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (command, index) = line.split_once(' ').ok_or("a command and a number")?;
        let picture = pictures
            .get(index.parse::<usize>()?)
            .ok_or("no such picture")?
            .clone();
        let start = Instant::now();
        let output = block_on(engine.logits_and_features(picture, &[]))?;
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        match command {
            "picture" => println!("{}", serde_json::to_string(&output.logits.values)?),
            "time" => println!("{milliseconds}"),
            _ => return Err(format!("no command is called {command:?}").into()),
        }
    }
    Ok(())
}

/// One tensor a picture.
fn read(file: &Path, engine: &dyn Engine) -> Result<Vec<HostTensor>, Box<dyn Error>> {
    let config = engine.config();
    let [height, width] = config.img_size;
    let shape = vec![1, config.num_channels, height, width];
    let bytes = std::fs::read(file)?;
    let (values, rest) = bytes.as_chunks::<4>();
    let size = shape.iter().product();
    if !rest.is_empty() || size == 0 || values.len() % size != 0 {
        return Err(format!("{}: no whole pictures of {shape:?}", file.display()).into());
    }
    let picture = |values: &[[u8; 4]]| HostTensor {
        shape: shape.clone(),
        values: values.iter().copied().map(f32::from_le_bytes).collect(),
    };
    Ok(values.chunks(size).map(picture).collect())
}
