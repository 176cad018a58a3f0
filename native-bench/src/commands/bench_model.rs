//! A part of `aim-bench bench`: one model on one device in one precision, batch after batch.

use std::time::Instant;

use aim_web::config::Config;
use aim_web::cost;
use aim_web::cpu::threads;
use aim_web::device::Device;
use aim_web::engine::{self as library, Engine, HostTensor};
use aim_web::weights::LocalModel;
use aim_web::weights::synthetic::Synthetic;
use aim_web::{Error, ErrorKind, Result};

use crate::args::DeviceChoice;
use crate::args::bench::BenchModel;
use crate::bench::child;
use crate::bench::row::{Failure, Row};
use crate::bench::timing::Spread;
use crate::drivers::EnergyMeter;
use crate::model::Model;
use crate::{engine, host, model, output};

/// A model that is about to be measured.
struct Loaded {
    engine: Box<dyn Engine>,
    device: Device,
    seconds: f64,
}

/// Writes a [`Row`] for each batch. A failure is a row too, and the end: of a device that ran out of memory nothing can be
/// expected.
pub fn run(args: &BenchModel) -> Result<()> {
    child::end_with_parent()?;
    // From small to large, so that the most memory yet is what this batch took.
    let mut batches: Vec<usize> = args.batch.iter().map(|&batch| batch as usize).collect();
    batches.sort_unstable();
    batches.dedup();
    let mut row = Row {
        device: args.model.settings.target.device.name(),
        dtype: aim_web::precision::Precision::from(args.model.settings.dtype)
            .name()
            .to_owned(),
        threads: args.model.settings.threads.map(usize::from),
        model: match &args.synthetic {
            Some(synthetic) => synthetic.name.clone(),
            None => model::name(&args.model),
        },
        ..Row::default()
    };
    let fail = |mut row: Row, batch: usize, error: &Error| {
        row.batch = batch;
        row.error = Some(failure(error));
        child::tell(&row)
    };
    let first = batches.first().copied().unwrap_or(1);
    let Loaded {
        engine,
        device,
        seconds,
    } = match load(args, &mut row, batches.last().copied().unwrap_or(1)) {
        Ok(loaded) => loaded,
        Err(error) => return fail(row, first, &error),
    };
    row.load_s = Some(seconds);
    row.dtype = engine.precision().name().to_owned();
    let mut last = 0;
    for wanted in batches {
        let batch = engine.largest_batch(wanted);
        engine::warn_of_cut(wanted, batch.max(1));
        // Not even one: its own error says what is lacking.
        row.batch = batch.max(1);
        if row.batch == last {
            continue;
        }
        last = row.batch;
        match measure(args, &*engine, &device, row.clone()) {
            Ok(row) => child::tell(&row)?,
            Err(error) => return fail(row.clone(), last, &error),
        }
    }
    Ok(())
}

pub fn failure(error: &Error) -> Failure {
    Failure {
        code: error.kind().code().to_owned(),
        message: output::one_line(error),
    }
}

/// Opens the device and loads the model; the row says how far it got.
fn load(args: &BenchModel, row: &mut Row, largest: usize) -> Result<Loaded> {
    let BenchModel {
        model: options,
        synthetic,
        ..
    } = args;
    let precision = options.settings.dtype.into();
    let files = match synthetic {
        Some(_) => None,
        None => Some(engine::located(model::open(options)?)?),
    };
    let config = match (&files, synthetic) {
        (Some(files), _) => files.config.clone(),
        (None, Some(synthetic)) => {
            let config = synthetic.config.clone();
            match &options.settings.probe_layers {
                Some(layers) => config.with_probe_layers(layers)?,
                None => config,
            }
        }
        (None, None) => return Err(Error::new(ErrorKind::Option, "there is no model")),
    };
    row.probe_layers.clone_from(&config.probe_layers);
    let blocks = config.blocks_to_run();
    engine::start_threads(options.settings.threads.unwrap_or_default().into())?;
    let device = engine::open(options.settings.target, &config, blocks, precision)?;
    describe(row, &device);
    library::largest_batch(&config, blocks, precision, &device, largest)?;

    let start = Instant::now();
    let model = match files {
        Some(files) => files,
        None => {
            let form = library::weight_format(&config, blocks, precision, &device)?;
            let (weights, config) = Synthetic::new(&config, form, 0)?;
            Model::from(LocalModel::new(vec![Box::new(weights)], config, None))
        }
    };
    let engine = engine::load_onto(model, blocks, precision, &device)?;
    Ok(Loaded {
        engine,
        device,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// What an automatic choice took, and what that is.
fn describe(row: &mut Row, device: &Device) {
    if row.device == DeviceChoice::Auto.name() {
        let chosen = if device.is_gpu() {
            DeviceChoice::Gpu
        } else {
            DeviceChoice::Cpu
        };
        row.device = chosen.name();
    }
    match device {
        Device::Cpu => {
            row.adapter = host::processor();
            row.threads = Some(threads::count());
        }
        Device::Gpu(gpu) => {
            row.adapter = Some(gpu.adapter.clone());
            row.threads = None;
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) => {
            row.adapter = Some(gpu.name());
            row.threads = None;
        }
    }
}

fn measure(args: &BenchModel, engine: &dyn Engine, device: &Device, mut row: Row) -> Result<Row> {
    let config = engine.config();
    let pictures = pictures(config, row.batch);
    let batch = || {
        let output = engine::run(engine, device, pictures.clone(), &[])?;
        let is_whole = output.logits.values.iter().all(|value| value.is_finite());
        if is_whole {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::DeviceLost,
            "the model gives no finite numbers on this device: use another driver, or the CPU",
        ))
    };
    let meter = match device {
        Device::Cpu => EnergyMeter::of_cpu(),
        Device::Gpu(gpu) => EnergyMeter::of_gpu(&gpu.pci_bus),
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) => EnergyMeter::of_gpu(&gpu.pci_bus),
    };
    let mut before = None;
    let seconds = args.timing.of(batch, || {
        before = meter.as_ref().and_then(EnergyMeter::read);
    })?;
    let joules = meter
        .as_ref()
        .zip(before)
        .and_then(|(meter, before)| meter.joules_since(&before));
    let images = row.batch * seconds.len();
    row.joules_per_image = joules.map(|joules| joules / images.max(1) as f64);
    if let Some(spread) = Spread::of(seconds) {
        row.time(&spread, cost::flops(config, config.blocks_to_run()));
    }
    row.peak_host_bytes = host::peak_bytes();
    row.peak_device_bytes = match device {
        Device::Cpu => None,
        Device::Gpu(gpu) => gpu.bytes_taken(),
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) => gpu.bytes_taken(),
    };
    Ok(row)
}

/// Normalised pictures, each another.
fn pictures(config: &Config, batch: usize) -> HostTensor {
    let [height, width] = config.img_size;
    let shape = vec![batch, config.num_channels, height, width];
    let count = shape.iter().product();
    HostTensor {
        values: (0..count)
            .map(|i: usize| (i.wrapping_mul(7919) % 1009) as f32 / 252.0 - 2.0)
            .collect(),
        shape,
    }
}
