//! `aim-bench features`: what the model makes of pictures before it names them, as files that others read.

use aim_web::classifier::Classifier;
use aim_web::engine::{self as library, HostTensor};
use aim_web::{Error, ErrorKind, Result};
use serde_json::json;

use super::Outcome;
use crate::args::{self, Features};
use crate::data::{DataSet, path_text};
use crate::features::layout::{Identity, Layout};
use crate::features::metadata::{self, Row};
use crate::features::rows::RowFile;
use crate::inference::Inference;
use crate::output::{self, say};
use crate::progress::Progress;
use crate::world::World;
use crate::{engine, model};

/// Writes the partitions that are this process's and not there yet.
pub fn run(args: &Features) -> Result<Outcome> {
    let world = World::find(&args.world)?;
    let mut model = model::open(&args.model)?;
    if let Some(layers) = &args.layers {
        model.config = model.config.with_probe_layers(layers)?;
    }
    let config = model.config.clone();
    let data = DataSet::open_any(&args.data.data_path, args.data.split())?;
    let labels = model.labels.clone();
    let blocks = config.blocks_to_run();
    let loaded = engine::load_in_world(
        model,
        blocks,
        &args.model,
        &world,
        args.data.batch_size as usize,
    )?;
    let device = loaded.device;

    let [height, width] = config.img_size;
    let [rows, columns] = config.grid(height, width)?;
    let dim = config.embed_dim;
    let (pool, shape) = match args.pool {
        args::Pool::Mean => (library::Pool::Mean, vec![dim]),
        args::Pool::Probe => (library::Pool::Probe, vec![dim]),
        args::Pool::None => (library::Pool::None, vec![rows * columns, dim]),
    };
    let partitions = u64::from(args.partitions);
    let classifier = Classifier::new(loaded.engine, labels)?;
    let layout = Layout::open(
        &args.output,
        &Identity {
            model: loaded.sha256,
            dtype: classifier.engine().precision().name().to_owned(),
            data: data.sha256(),
            pictures: data.len() as u64,
            exif: args.data.exif,
            layers: config.probe_layers.clone(),
            pool: args.pool,
            format: args.format,
            output_dtype: args.output_dtype,
            shape: shape.clone(),
            partitions,
        },
    )?;
    let inference = Inference {
        data: &data,
        classifier: &classifier,
        device: &device,
        exif: args.data.exif,
        batch_size: loaded.batch,
        threads: loaded.threads,
    };
    let layers = &config.probe_layers;
    let compute = |images: HostTensor| -> Result<HostTensor> {
        let features = engine::wait(&device, classifier.engine().pooled(images, layers, pool))?;
        if features.values.iter().all(|value| value.is_finite()) {
            return Ok(features);
        }
        Err(Error::new(
            ErrorKind::Format,
            "the model's features are not finite: its weights are broken or too large for this precision",
        ))
    };

    let own: Vec<u64> = (0..partitions)
        .filter(|partition| partition % world.size == world.rank)
        .collect();
    let share = |partition: u64| {
        let part = World {
            rank: partition,
            size: partitions,
            ..world
        };
        part.share(data.len())
    };
    let count = |partitions: &[u64]| -> u64 {
        let lens = partitions
            .iter()
            .map(|&partition| share(partition).len() as u64);
        lens.sum()
    };
    let (there, missing): (Vec<u64>, Vec<u64>) = own
        .iter()
        .copied()
        .partition(|&partition| layout.is_complete(partition));
    let progress = Progress::new(args.data.progress, "pictures", count(&own), count(&there));
    for partition in missing {
        let _lock = layout.lock(partition)?;
        if layout.is_complete(partition) {
            progress.advance(share(partition).len() as u64, "");
            continue;
        }
        let (mut file, mut rows, mut broken) = (
            RowFile::new(
                &layout.features(partition),
                args.format,
                args.output_dtype,
                shape.clone(),
            )?,
            Vec::new(),
            0_u64,
        );
        inference.run(share(partition), &compute, &mut |picture, output| {
            match output {
                Ok(output) => {
                    file.push(&output.values)?;
                    let class = data.label(picture).map(str::to_owned);
                    rows.push(Row {
                        path: data.name(picture).into_owned(),
                        class: class.map(|label| (label, data.class(picture))),
                    });
                }
                Err(error) if args.data.strict => return Err(error),
                Err(error) => {
                    progress.aside(|| output::error(&error));
                    broken += 1;
                }
            }
            progress.advance(1, "");
            Ok(())
        })?;
        file.finish()?;
        metadata::write(&layout.metadata(partition), &rows, broken)?;
    }
    progress.end();
    let (mut pictures, mut broken) = (0, 0);
    for &partition in &own {
        let (rows, missing) = metadata::read(&layout.metadata(partition))?;
        pictures += rows;
        broken += missing;
    }
    if world.size == 1 {
        layout.name_the_only_one()?;
    }

    if args.json {
        output::print_json(&json!({
            "output": path_text(&args.output),
            "pictures": pictures,
            "broken": broken,
            "shape": shape,
            "layers": layers,
            "partitions": own.len(),
            "skipped": there.len(),
            "device": device.name(),
        }))?;
    } else {
        if broken > 0 {
            say!("{broken} broken pictures have no features")?;
        }
        say!(
            "{}: features of {pictures} pictures, {shape:?} each, in {} partitions, {} of them there before ({})",
            args.output.display(),
            own.len(),
            there.len(),
            device.name()
        )?;
    }
    Ok(if broken > 0 {
        Outcome::Incomplete
    } else {
        Outcome::Complete
    })
}
